"""The annotated picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.chart import Detection, detect_chart, draw_detection
from calibration.chart.draw import GOOD, LONGEST_SIDE, WARNED
from tests.fakes.charts import ChartShot, render_chart


@pytest.fixture(scope="module")
def shot() -> ChartShot:
    return render_chart(size=(480, 720))


@pytest.fixture(scope="module")
def found(shot: ChartShot) -> Detection:
    return detect_chart(shot.rgb)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 12).sum())


def test_every_patch_is_marked_on_a_copy(shot: ChartShot, found: Detection) -> None:
    before = shot.rgb.copy()
    drawn = draw_detection(shot.rgb, found)
    assert np.array_equal(shot.rgb, before)
    assert drawn.dtype == np.uint8
    assert max(drawn.shape[:2]) == 900, "a small picture is enlarged"
    assert count(drawn, GOOD) > 24 * 100
    assert count(drawn, WARNED) == 0


def test_a_patch_to_look_at_is_orange(shot: ChartShot, found: Detection) -> None:
    for change in ("clipped", "crushed"):
        flags = np.zeros(24, dtype=bool)
        flags[4] = True
        marked = replace(found, patches=replace(found.patches, **{change: flags}))
        assert count(draw_detection(shot.rgb, marked), WARNED) > 100
    uneven = replace(found, patches=replace(found.patches, variation=np.full(24, 0.06)))
    assert count(draw_detection(shot.rgb, uneven), GOOD) == 0


def test_a_large_picture_is_reduced(found: Detection) -> None:
    assert max(draw_detection(np.zeros((1500, 3000, 3), np.uint8), found).shape[:2]) == LONGEST_SIDE
