"""``dermascan analyze``: order, exit codes, JSON lines, overlays; and once with the real model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import pytest

from agent.answer import commands, oneshot
from agent.answer.commands import register
from agent.answer.pipeline import Analysis, Setting
from agent.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, EXIT_SOME_REJECTED
from engines.backend import BundleError, EngineError
from tests.answer.conftest import FakeLadder, decoded, png, skin


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    parsed = parser.parse_args(["analyze", *map(str, arguments)])
    code: int = parsed.run(parsed)
    return code


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, setting: Setting) -> None:
    """The command with the fake ladder."""
    monkeypatch.setattr(commands, "load_bundle", lambda folder, **_: setting.bundle)
    monkeypatch.setattr(commands, "open_setting", lambda bundle, config: setting)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(png(skin(256 + number, 320)))
    return paths


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("faked")
def test_answers_come_in_the_order_given(
    images: list[Path], ladder: FakeLadder, capsys: pytest.CaptureFixture[str]
) -> None:
    order = [images[2], images[0], images[3], images[1]]
    assert run(*order, "--json") == EXIT_OK
    found = lines(capsys)
    assert [line["path"] for line in found] == [str(path) for path in order]
    assert {line["state"] for line in found} == {"answered"}
    assert len({line["scan_id"] for line in found}) == 4
    assert (ladder.events[0], ladder.events[-1]) == ("start", "stop")


@pytest.mark.usefixtures("faked")
def test_a_rejection_is_a_line_of_its_own_and_stops_nothing(
    images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "note.jpg"
    text.write_text("not a picture")
    assert run(images[0], tmp_path / "gone.png", text, images[1], "--json") == EXIT_SOME_REJECTED
    found = lines(capsys)
    assert [line["state"] for line in found] == ["answered", "rejected", "rejected", "answered"]
    assert [line.get("reason") for line in found[1:3]] == ["unreadable", "not_a_picture"]
    assert set(found[1]) == {"path", "state", "reason", "sentence"}


@pytest.mark.usefixtures("faked")
def test_people_get_blocks(images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(images[0], tmp_path / "gone.png") == EXIT_SOME_REJECTED
    captured = capsys.readouterr()
    for part in (str(images[0]), "suspicious", "30.0% (threshold 25.0%)", "melanocytic naevus", "rejected", "Adjunct"):
        assert part in captured.out
    assert captured.err == ""
    assert "\x1b" not in captured.out


@pytest.mark.usefixtures("faked")
def test_the_sidecar_beside_the_picture_counts(images: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    images[0].with_suffix(".json").write_text('{"patient_id": "p-1"}')
    assert run(images[0], "--json") == EXIT_OK
    assert lines(capsys)[0]["patient_id"] == "p-1"


@pytest.mark.usefixtures("faked")
def test_overlays_never_meet_an_input_or_each_other(
    images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "0.png"
    other.write_bytes(images[0].read_bytes())
    before = images[0].read_bytes()
    folder = images[0].parent
    assert run(images[0], other, "--overlay", folder) == EXIT_OK
    assert images[0].read_bytes() == before
    assert {path.name for path in folder.glob("0*.png")} == {"0.png", "0-2.png", "0-3.png"}
    assert decoded((folder / "0-2.png").read_bytes()).shape[1] > 900
    assert not list(folder.glob(".*"))
    assert "0-3.png" in capsys.readouterr().out


@pytest.mark.usefixtures("faked")
def test_a_folder_as_image_is_told_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == EXIT_CONFIG
    assert "is a folder; name the pictures in it" in capsys.readouterr().err


@pytest.mark.usefixtures("faked")
def test_an_overlay_folder_that_cannot_be_made(
    images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(images[0], "--overlay", tmp_path / "file") == EXIT_CONFIG
    assert "cannot be used for overlays" in capsys.readouterr().err


@pytest.mark.usefixtures("faked")
@pytest.mark.parametrize("broken", ["run", "wait_ready"])
def test_a_failed_engine_is_exit_1(
    images: list[Path],
    ladder: FakeLadder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    def fail(*_: object) -> bool:
        if broken == "run":
            raise EngineError("it burst")
        return False

    monkeypatch.setattr(ladder, broken, fail)
    assert run(images[0], "--json") == EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the engine failed" in captured.err
    assert ladder.events[-1] == "stop"


class AtOnce(Executor):
    """Does its work when it is given, so that a test knows when."""

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
        future: Future[object] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_waiting_for_the_engine_is_no_part_of_an_answers_time(
    images: list[Path], ladder: FakeLadder, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def starting(timeout_s: float) -> bool:
        now[0] += 50.0
        return True

    monkeypatch.setattr(ladder, "wait_ready", starting)
    timed = replace(setting, monotonic=lambda: now[0])
    items = list(oneshot.analyse_all(images[:2], timed, AtOnce()))
    assert ladder.deadlines == [3.0, 3.0]
    assert [item.outcome.answer.latency_ms for item in items if isinstance(item.outcome, Analysis)] == [0.0, 0.0]


def test_a_bad_bundle_raises_what_the_caller_turns_into_78(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="manifest"):
        run(images[0], "--bundle", tmp_path)


def test_rich_is_only_loaded_for_people() -> None:
    import subprocess

    heavy = {"rich", "torch", "onnxruntime", "pydicom", "scipy"}
    code = f"import sys, agent.answer.commands; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_with_the_real_model(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """End to end: configuration, demo bundle, worker process, overlay."""
    good = tmp_path / "good.png"
    good.write_bytes(png(skin()))
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:5000])
    arguments = (good, bad, good, "--json", "--overlay", tmp_path / "out", "--config", write_config())
    assert run(*arguments) == EXIT_SOME_REJECTED
    first, second, third = lines(capsys)
    assert (first["state"], second["reason"], third["state"]) == ("answered", "truncated", "answered")
    assert first["diagnosis"] == third["diagnosis"]
    assert first["device_id"] == "device-1"
    assert first["backend"] == "cpu"
    assert sum(first["diagnosis"]["all_classes"].values()) == pytest.approx(1.0, abs=1e-3)  # type: ignore[index]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good.png", "good-2.png"}
    assert first["dermoscope_id"] == oneshot.UNNAMED
