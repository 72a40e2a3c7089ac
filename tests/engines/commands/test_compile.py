"""``dermascan engine compile``: what it prints, its exit codes, and where plans go."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.backend import BundleError
from engines.commands import compile as command
from engines.tensorrt import apart
from engines.tensorrt.gpu import NoGpu
from engines.tensorrt.order import CompileOrder
from engines.tensorrt.plan_key import PlanKey
from engines.tensorrt.plans import Plan, PlanError
from engines.tensorrt.versions import NoTensorRT

PLAN = Plan(
    folder=Path("/cache/plans/abc"),
    key=PlanKey(
        model_sha256="a" * 64,
        source="model.fp16.onnx",
        source_sha256="b" * 64,
        product="tensorrt",
        version="10.3.0",
        gpu="Jetson AGX Orin",
        compute_capability="8.7",
        driver="L4T 36.4",
        device="c" * 32,
        flags={"max_batch": "8", "precision": "fp16", "typing": "strong", "via": "onnx"},
    ),
    sha256="d" * 64,
    size_bytes=177_000_000,
    build_seconds=43.21,
    built_at="2026-01-01T00:00:00+00:00",
    notes=("weights are subnormal",),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[apart.Request]:
    """What was ordered; the order is filled with :data:`PLAN` at once."""
    requests: list[apart.Request] = []

    def fill(request: apart.Request, progress: Any) -> Plan:
        requests.append(request)
        progress("reading the graph", None)
        progress("building", None)
        progress("building: tactics", 0.5)
        return PLAN

    monkeypatch.setattr(apart, "compile_apart", fill)
    return requests


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    parsed = parser.parse_args(["compile", *map(str, arguments)])
    code: int = parsed.run(parsed)
    return code


def test_a_compiled_plan_is_told(
    asked: list[apart.Request], demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(demo_bundle, "--cache", tmp_path) == 0
    assert asked == [apart.Request(demo_bundle, tmp_path)]  # no GPU is claimed: the child asks the driver
    out, progress = capsys.readouterr()
    assert out.splitlines() == [
        "Compiled in 43.2 s.",
        "  plan    /cache/plans/abc/plan.engine (177.0 MB)",
        "  graph   model.fp16.onnx, FP16, strongly typed, via onnx",
        "  batches 1 to 8",
        "  for     Jetson AGX Orin (8.7, driver L4T 36.4) with TensorRT 10.3.0",
        "  TensorRT warns: weights are subnormal",
        f"Next: dermascan engine verify {demo_bundle} --backend tensorrt",
    ]
    assert progress.splitlines() == ["reading the graph …", "building …"]


def test_every_option_is_passed_on(asked: list[apart.Request], demo_bundle: Path, tmp_path: Path) -> None:
    options = "--max-batch 4 --precision fp32 --typing weak --via torch-tensorrt --workspace-mb 512 --level 5 --force"
    more = ("--experimental-rtx", "--verbose", "--json", "--require-trusted", "--trust-dir", tmp_path)
    run(demo_bundle, "--cache", tmp_path, *options.split(), *more)
    (request,) = asked
    assert request.order == CompileOrder(4, "fp32", "weak", "torch-tensorrt", 512 << 20, 5)
    assert (request.force, request.experimental, request.verbose) == (True, True, True)
    assert request.trust.require_trusted
    assert request.trust.folder == tmp_path


def test_json_has_all_that_a_machine_wants(
    asked: list[apart.Request], demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(demo_bundle, "--cache", tmp_path, "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["plan"] == "/cache/plans/abc/plan.engine"
    assert told["compiled"] is True
    assert (told["key"], told["gpu"], told["version"]) == (PLAN.key.digest, "Jetson AGX Orin", "10.3.0")
    assert (told["typing"], told["max_batch"], told["size_bytes"]) == ("strong", "8", 177_000_000)


def test_a_plan_from_the_cache_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apart, "compile_apart", lambda *_: PLAN)
    run(demo_bundle, "--cache", tmp_path)
    assert capsys.readouterr().out.startswith("The cache has this plan already, of 2026-01-01")
    run(demo_bundle, "--cache", tmp_path, "--json")
    assert json.loads(capsys.readouterr().out)["compiled"] is False


def test_rtx_is_called_an_experiment(
    monkeypatch: pytest.MonkeyPatch, demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx = replace(PLAN, key=replace(PLAN.key, product="tensorrt_rtx"))
    monkeypatch.setattr(apart, "compile_apart", lambda *_: rtx)
    run(demo_bundle, "--cache", tmp_path, "--experimental-rtx")
    out = capsys.readouterr().out
    assert "with TensorRT-RTX 10.3.0" in out
    assert "an experiment here, not for clinics" in out


@pytest.mark.parametrize("error", [NoGpu("no GPU"), NoTensorRT("no TensorRT"), PlanError("cannot be built")])
def test_what_cannot_be_compiled_is_one_sentence_and_exit_1(
    monkeypatch: pytest.MonkeyPatch,
    demo_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def fail(*_: object) -> Plan:
        raise error

    monkeypatch.setattr(apart, "compile_apart", fail)
    assert run(demo_bundle, "--cache", tmp_path) == 1
    assert capsys.readouterr() == ("", f"{error}\n")


@pytest.mark.parametrize(
    "wrong", ["--max-batch 0", "--max-batch 65", "--max-batch x", "--level 6", "--workspace-mb 0", "--via tvm"]
)
def test_a_wrong_option_is_refused(wrong: str, demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(demo_bundle, *wrong.split())
    assert wrong.split(maxsplit=1)[0] in capsys.readouterr().err


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return path


def test_plans_go_to_the_cache_of_the_agents_settings(
    asked: list[apart.Request], demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path, '[device]\nstate_dir = "state"\n')
    run(demo_bundle, "--config", config)
    monkeypatch.chdir(tmp_path)
    run(demo_bundle)
    assert [request.cache for request in asked] == [tmp_path / "state" / "cache"] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "device.state_dir: is missing"),
        ("device = 3", "device.state_dir: is missing"),
        ("[device]\nstate_dir = 3", "device.state_dir: is missing, or no text"),
        ("[device", "is not valid TOML"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    asked: list[apart.Request], demo_bundle: Path, tmp_path: Path, text: str, words: str
) -> None:
    config = settings(tmp_path, text)
    with pytest.raises(BundleError, match=words) as caught:
        run(demo_bundle, "--config", config)
    assert str(config) in str(caught.value)
    assert not asked


def test_without_settings_it_asks_where_plans_go(
    demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"where are plans kept\?.*--config FILE.*--cache DIR"):
        run(demo_bundle)
    with pytest.raises(BundleError, match=r"nowhere\.toml: cannot be read"):
        run(demo_bundle, "--config", tmp_path / "nowhere.toml")


def test_on_this_machine_as_it_is(demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing replaced: without TensorRT or a GPU the command says so, whatever else there is."""
    code = run(demo_bundle, "--cache", tmp_path)
    err = capsys.readouterr().err
    assert (code, "\n" in err.strip()) == (1, False) or code == 0
    if code == 1:
        assert any(words in err for words in ("TensorRT is not installed", "no NVIDIA driver", "GPU"))
