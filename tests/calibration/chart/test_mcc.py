"""OpenCV's detector in its own process: it may crash, hang or talk nonsense, and nothing comes of it here."""

from __future__ import annotations

import io
import json
import logging
import sys
import time

import cv2
import numpy as np
import pytest

from calibration.chart import ChartNotFound, child, detect_chart
from calibration.chart import detect as detect_module
from calibration.chart.mcc import mcc_boxes
from tests.fakes.charts import Camera, ChartShot, render_chart

GREY = np.full((200, 300, 3), 128, np.uint8)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", f"import sys; sys.stdin.buffer.read(); {code}")


@pytest.fixture(scope="module")
def shot() -> ChartShot:
    return render_chart(size=(600, 900), fill=0.8, camera=Camera(noise=2.0))


def test_boxes_come_back_from_the_process(shot: ChartShot) -> None:
    boxes = mcc_boxes(shot.rgb, timeout_s=20.0)
    assert boxes
    nearest = [min(float(np.hypot(*(corner - point))) for point in boxes[0]) for corner in shot.corners]
    assert max(nearest) < 40


def test_the_same_picture_gives_the_same_boxes(shot: ChartShot) -> None:
    first, second = (mcc_boxes(shot.rgb, timeout_s=20.0) for _ in range(2))
    assert [box.tolist() for box in first] == [box.tolist() for box in second]


def test_nothing_found_does_not_crash() -> None:
    """The trap: asking for the best checker after a failed process() is a segmentation fault."""
    assert mcc_boxes(GREY, timeout_s=20.0) == []


def test_a_chart_that_only_opencv_sees_is_measured_by_the_same_rules(
    shot: ChartShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect_module, "find_lattices", lambda *_: [])
    found = detect_chart(shot.rgb)
    assert found.how == "mcc"
    middle = found.patches.boxes.mean(axis=1)
    assert np.hypot(*(middle - shot.centres).T).max() < 8
    covered = render_chart(size=(600, 900), fill=0.8, covered=("red", "white"), camera=Camera(noise=2.0))
    with pytest.raises(ChartNotFound):
        detect_chart(covered.rgb)


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "sys.exit(3)",
        "raise RuntimeError('inside')",
        "print('no json')",
        "print('[[1, 2, 3]]')",
        "print('{}')",
        "print('[5]')",
    ],
)
def test_a_process_that_fails_finds_nothing_and_is_logged(code: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert mcc_boxes(GREY, timeout_s=20.0, command=python(code)) == []
    assert ("OpenCV's chart detector" in caplog.text) is (code != "print('{}')")


def test_a_process_that_hangs_is_stopped() -> None:
    started = time.monotonic()
    with pytest.raises(ChartNotFound, match=r"longer than 0\.5 s.*--corners"):
        mcc_boxes(GREY, timeout_s=0.5, command=python("import time; time.sleep(60)"))
    assert time.monotonic() - started < 10


def test_values_that_are_no_numbers_are_left_out() -> None:
    boxes = "[[[0,0],[1,0],[1,NaN],[0,1]], [[0,0],[9,0],[9,9],[0,9]]]"
    assert len(mcc_boxes(GREY, timeout_s=20.0, command=python(f"print('{boxes}')"))) == 1


def test_the_childs_own_conversation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"[200, 300]\n" + GREY.tobytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(cv2, "setNumThreads", lambda _: None)
    assert child.main() == 0
    assert json.loads(capsys.readouterr().out) == []
