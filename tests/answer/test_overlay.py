"""The overlay: the picture unmodified on the left, the heatmap only where the model looked on the right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.answer import overlay
from agent.answer.caption import caption_lines
from agent.answer.overlay import blend, layout, render_overlay, to_panel
from agent.answer.pipeline import Analysis
from agent.answer.shrink import PREVIEW_SIDE, preview
from tests.answer.conftest import decoded, skin

Picture = NDArray[np.uint8]
SIZES = [(768, 1024), (1024, 768), (224, 224), (256, 256), (3000, 4000), (200, 2000), (2000, 200), (481, 641)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_left_panel_is_the_picture_itself(
    analysed: Callable[..., Analysis], attention: NDArray[np.float32], height: int, width: int
) -> None:
    picture = skin(height, width)
    place = layout(height, width)
    drawn = decoded(render_overlay(picture, attention, analysed().answer))
    panel = to_panel(picture, place)
    np.testing.assert_array_equal(drawn[place.left], panel)
    assert max(panel.shape[:2]) <= 1024
    assert panel.shape[0] / panel.shape[1] == pytest.approx(height / width, rel=0.03)


@pytest.mark.parametrize(
    ("height", "width"),
    [(768, 1024), (1024, 768), (1500, 2000), (300, 2000), (768, 300), (1022, 770), (511, 512), (200, 240)],
)
def test_the_preview_changes_no_pixel_of_it(
    height: int, width: int, attention: NDArray[np.float32], analysed: Callable[..., Analysis]
) -> None:
    assert overlay.PANEL_WIDTH == PREVIEW_SIDE == max(overlay.PANEL_WIDTH, overlay.PANEL_HEIGHT, overlay.CELL_WIDTH)
    picture = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = preview(picture)
    assert max(small.shape) < 1024
    answer = analysed().answer
    np.testing.assert_array_equal(
        decoded(render_overlay(small, attention, answer)), decoded(render_overlay(picture, attention, answer))
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_outside_the_square_nothing_changes(
    analysed: Callable[..., Analysis], attention: NDArray[np.float32], height: int, width: int
) -> None:
    picture = skin(height, width)
    place = layout(height, width)
    right = decoded(render_overlay(picture, attention, analysed().answer))[place.right]
    panel = to_panel(picture, place)
    outside = np.ones(panel.shape[:2], dtype=bool)
    outside[place.square] = False
    np.testing.assert_array_equal(right[outside], panel[outside])
    assert (right[place.square] != panel[place.square]).any()


def test_the_square_is_the_centre(picture: Picture, attention: NDArray[np.float32]) -> None:
    place = layout(*picture.shape[:2])
    assert place.square == (slice(0, 384), slice(64, 448))
    panel = to_panel(picture, place)
    before = panel.copy()
    blend(panel, attention, place.square)
    changed = (panel != before).any(axis=2)
    assert changed[place.square].mean() > 0.95
    changed[place.square] = False
    assert not changed.any()


def test_the_blend_is_the_stated_mixture(attention: NDArray[np.float32]) -> None:
    grey = np.full((448, 448, 3), 128, np.uint8)
    heat = np.rint(overlay.intensity(attention, 448) * 255).astype(int)
    weight = overlay.LEAST_BLEND + (overlay.MOST_BLEND - overlay.LEAST_BLEND) * heat[..., None] / 255
    expected = 128 * (1 - weight) + overlay.colour_table()[heat] * weight
    blend(grey, attention, (slice(0, 448), slice(0, 448)))
    assert np.abs(grey - expected).max() <= 1.6


def test_the_colour_bar_runs_from_low_to_high(
    analysed: Callable[..., Analysis], picture: Picture, attention: NDArray[np.float32]
) -> None:
    drawn = decoded(render_overlay(picture, attention, analysed().answer))
    place = layout(*picture.shape[:2])
    row = drawn[place.right[0].stop + 8 + 6 + overlay.BAR_HEIGHT // 2]
    table = overlay.colour_table()
    first = np.flatnonzero((row == table[0]).all(axis=1))
    last = np.flatnonzero((row == table[255]).all(axis=1))
    assert place.right[1].start < first[0] < last[-1] < place.right[1].stop


@pytest.mark.requirement("R-ANS-3", "R-PAT-1")
def test_the_caption_says_what_matters_and_names_no_patient(analysed: Callable[..., Analysis]) -> None:
    from agent.intake.sidecar import Sidecar

    answer = analysed(sidecar=Sidecar(patient_id="CANARY-7")).answer
    assert answer.patient_id == "CANARY-7"
    text = " ".join(line.text for line in caption_lines(answer, 1200))
    for part in ("30 %", "25 %", "at or above", "melanocytic naevus", "40 %", "scan-1", "fake/1.2.3", *answer.warnings):
        assert part in text
    assert "Adjunct for trained clinicians; not a diagnosis" in text
    assert answer.recommendation in text
    assert "CANARY" not in text


@pytest.mark.requirement("R-ANS-2")
def test_risk_and_threshold_never_read_the_same_when_they_differ(analysed: Callable[..., Analysis]) -> None:
    answer = analysed([0.2499, 0, 0, 0, 0.7501, 0, 0]).answer
    first = caption_lines(answer, 1200)[0].text
    assert "25.0 %, below the threshold of 25.0 %" not in first
    assert "24.99 %, below the threshold of 25.00 %" in first


def test_many_and_long_warnings_stay_on_the_canvas(
    analysed: Callable[..., Analysis], picture: Picture, attention: NDArray[np.float32]
) -> None:
    answer = analysed().answer.model_copy(update={"warnings": tuple("word " * 60 for _ in range(50))})
    lines = caption_lines(answer, 600)
    assert len(lines) < 25
    assert any("in the answer's JSON" in line.text for line in lines)
    assert lines[-1].text.startswith("Adjunct")
    assert decoded(render_overlay(picture, attention, answer)).shape[0] < 1400
