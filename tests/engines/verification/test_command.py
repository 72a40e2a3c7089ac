"""``dermascan engine verify`` from its command line: what it prints, writes and exits with."""

from __future__ import annotations

import argparse
import io
import json
import shutil
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from engines.backend import BackendSpec, BundleError
from engines.bundle import Bundle, load_bundle
from engines.commands.choices import CHOICES, Choice, EngineMissing, choose
from engines.commands.verify import BACKENDS, register
from engines.tensorrt import preparation
from engines.verification.gates import Outcome, Verdict
from engines.verification.record import Verification, read_record
from engines.verification.report import in_words, sentence, show
from engines.verification.run import Order, verify
from tests.engines.verification.test_record import made_up
from tests.fakes import faulty_backend as fake
from tests.fakes.bundles import amend

Run = Callable[..., int]
Fabricate = Callable[..., None]


@pytest.fixture
def run() -> Run:
    """Runs ``verify`` with arguments; returns its exit code."""
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())

    def go(*arguments: object) -> int:
        parsed = parser.parse_args(["verify", "--threads", "1", *map(str, arguments)])
        return int(parsed.run(parsed))

    return go


@pytest.fixture
def bundle(tmp_path: Path, demo_bundle: Path) -> Path:
    return Path(shutil.copytree(demo_bundle, tmp_path / "bundle"))


@pytest.fixture
def fabricate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fabricate:
    """``fabricate(faults)``: the fabricated model stands in for both engine and reference, which is quicker."""

    def stand_in(faults: dict[str, str] | None = None) -> None:
        (tmp_path / "engine").mkdir()
        (tmp_path / "reference").mkdir()
        engine = Choice(fake.spec(tmp_path / "engine", faults), {})
        monkeypatch.setattr("engines.commands.choices.choose", lambda *_, **__: engine)
        monkeypatch.setattr("engines.verification.run.reference_spec", lambda *_: fake.spec(tmp_path / "reference"))

    return stand_in


def test_the_command_line_knows_every_engine() -> None:
    assert BACKENDS == CHOICES


def test_golden_image_alone(run: Run, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, "--backend", "cpu", "--release") == 2
    printed = capsys.readouterr().out
    assert "INCOMPLETE: demo/1.0.0 on cpu: no gate is unmet, 6 of 10 were not measured" in printed
    assert printed.count("not measured") == 7
    record = read_record(bundle / "verification.json")
    assert record.verdict is Verdict.INCOMPLETE


def test_labels_are_judged(
    run: Run, bundle: Path, pictures: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]
) -> None:
    """The made-up labels are mostly wrong, so that the release gates cannot be met."""
    fabricate()
    out = bundle.parent / "found.json"
    labels = pictures.parent / "labels.csv"
    assert run(bundle, "--images", pictures, "--labels", labels, "--out", out, "--json") == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert printed["verdict"] == "failed"
    assert printed["picture_set"]["count"] == 6
    assert not (bundle / "verification.json").exists()


def test_a_draw_of_the_pictures(run: Run, bundle: Path, pictures: Path, fabricate: Fabricate) -> None:
    fabricate()
    assert run(bundle, "--images", pictures, "--limit", 4, "--seed", 3) == 0
    record = read_record(bundle / "verification.json")
    assert record.picture_set is not None
    assert (record.picture_set.count, record.picture_set.of, record.picture_set.seed) == (4, 6, 3)


@pytest.mark.fault("F14")
def test_an_engine_that_dies_fails_and_is_recorded(
    run: Run, bundle: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]
) -> None:
    fabricate({"1": "segfault"})
    assert run(bundle) == 2
    assert "FAILED: demo/1.0.0 on faulty: the engine could not be run: running: the worker" in capsys.readouterr().out
    record = read_record(bundle / "verification.json")
    assert record.failure is not None
    assert "SIGSEGV" in record.failure


@pytest.mark.parametrize(
    ("arguments", "code_and_words"),
    [
        (["--labels", "labels.csv"], (78, "Name their folder with --images")),
        (["--images", "nowhere"], (78, "nowhere: cannot be listed")),
        (["--out", "/proc/verification.json"], (1, "cannot be written")),
        (["--out", "nowhere/verification.json"], (1, "cannot be written")),
        (["--backend", "tensorrt"], (1, "with --cache DIR")),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    run: Run, bundle: Path, arguments: list[str], code_and_words: tuple[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, words = code_and_words
    assert run(bundle, *arguments) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_a_bundle_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such folder"):
        run(tmp_path / "nowhere")


@pytest.mark.fault("F13")
@pytest.mark.skipif(find_library("cuda") is not None, reason="this machine has an NVIDIA driver")
def test_tensorrt_without_a_gpu_is_said_plainly(
    run: Run, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, "--backend", "tensorrt", "--cache", tmp_path) == 1
    assert "NVIDIA" in capsys.readouterr().err
    assert not (bundle / "verification.json").exists()


class Prepared:
    """Stands in for the child that gets a plan ready: these outcomes, in turn."""

    outcomes: ClassVar[list[preparation.Prepared | preparation.Failed]] = []
    orders: ClassVar[list[preparation.Order]] = []

    def __init__(self, order: preparation.Order) -> None:
        self.orders.append(order)

    def wait(self, timeout_s: float, progress: object) -> preparation.Prepared | preparation.Failed:
        return self.outcomes.pop(0)


@pytest.mark.fault("F14")
def test_a_wrong_old_plan_is_made_anew_and_a_wrong_new_one_fails(
    demo: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "Preparation", Prepared)
    old = preparation.Failed("the plan is wrong on this device", soon=True, anew=True)
    new = preparation.Failed("TensorRT makes a wrong engine of this model", soon=False, anew=True)
    good = preparation.Prepared({"plan": "x"}, "demo/1.0.0 compiled by TensorRT 11")
    Prepared.orders, Prepared.outcomes = [], [old, good, old, new]
    chosen = choose("tensorrt", demo, cache=tmp_path)
    assert (chosen.spec.options, chosen.failure) == ({"plan": "x"}, None)
    assert [order.anew for order in Prepared.orders] == [False, True]
    chosen = choose("tensorrt", demo, cache=tmp_path)
    found = verify(Order(demo, chosen.spec, chosen.about, failure=chosen.failure))
    assert (found.verdict, found.failure) == (Verdict.FAILED, new.why)
    Prepared.outcomes = [preparation.Failed("no TensorRT here", soon=False)]
    with pytest.raises(EngineMissing, match="no TensorRT here"):
        choose("tensorrt", demo, cache=tmp_path)


@pytest.mark.fault("F15")
def test_a_tampered_bundle_is_not_verified(run: Run, bundle: Path) -> None:
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx: the file was changed or damaged"):
        run(bundle)


def test_an_fp16_graph_that_is_not_there_is_named(run: Run, bundle: Path) -> None:
    amend(bundle, lambda manifest: manifest["files"].pop("model.fp16.onnx"))
    with pytest.raises(BundleError, match=r"model\.fp16\.onnx: the manifest lists no such file"):
        run(bundle, "--backend", "cpu-fp16")


def test_an_fp16_graph_needs_the_build_stage(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(demo_bundle)
    files = {**bundle.manifest.files, "model.fp16.onnx": "0" * 64}
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"files": files}))
    monkeypatch.setattr("engines.commands.choices.find_spec", lambda _: object())
    chosen = choose(None, bundle)
    assert chosen.spec.name == "cpu-fp16"
    assert chosen.timed == BackendSpec("cpu", "engines.onnx_cpu:open_backend", bundle.folder, {"threads": 0})
    monkeypatch.setattr("engines.commands.choices.find_spec", lambda _: None)
    assert choose(None, bundle).spec.name == "cpu"
    with pytest.raises(EngineMissing, match=r"onnx is missing; install it with: pip install 'dermascan-edge\[build\]'"):
        choose("cpu-fp16", bundle)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_table_holds_every_gate_on_a_terminal_and_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for stream in (io.StringIO(), Terminal()):
        show(made_up(), stream)
        text = stream.getvalue()
        assert all(gate.name in text and gate.note in text for gate in made_up().gates)
        assert "latency with preprocessing, median 12.5 ms (11.0 to 14.0)" in text
        assert "6 of 9 pictures of six, seed 0" in text
        assert "INCOMPLETE" in text
        assert ("\x1b[" in text) == stream.isatty()


def test_the_sentence_tells_the_verdict() -> None:
    def told(**changes: object) -> str:
        return sentence(replace(made_up(), **changes))  # type: ignore[arg-type]

    met = tuple(replace(gate, outcome=Outcome.MET) for gate in made_up().gates)
    unmet = (replace(met[0], outcome=Outcome.UNMET), *made_up().gates[1:])
    assert told() == "INCOMPLETE: demo/1.0.0 on cpu: no gate is unmet, 3 of 3 were not measured"
    assert told(verdict=Verdict.PASSED, gates=met) == "PASSED: demo/1.0.0 on cpu: all 3 gates are met"
    assert told(verdict=Verdict.FAILED, gates=unmet).endswith("1 of 3 gates unmet, 2 not measured")
    assert told(failure="it died").startswith("FAILED: demo/1.0.0 on cpu: the engine could not be run: it died")


def test_a_figure_that_was_not_measured_is_a_dash() -> None:
    found: Verification = made_up()
    assert in_words(found.gates[0].figure, found.gates[0].unit) == "–"
