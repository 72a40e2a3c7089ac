"""Shots through a dermoscope: which part of the chart each shows, and all of them joined."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.chart import ChartNotFound, Detection, detect_chart, detect_tiles, merge_patches
from calibration.references import COLORCHECKER24
from tests.fakes.charts import DULL, WARM, Camera, ChartShot, dermoscope_tiles, through_dermoscope

SIZE = (480, 640)
EVEN = Camera(vignette=0.1, blur=1.0)


def assert_right(found: Detection, shot: ChartShot) -> None:
    truth = shot.centres[[shot.names.index(name) for name in found.patches.names]]
    side = np.hypot(*(found.patches.boxes[:, 1] - found.patches.boxes[:, 0]).T).min()
    assert np.hypot(*(found.patches.boxes.mean(axis=1) - truth).T).max() < 0.2 * side


@pytest.mark.parametrize(
    "options",
    [
        {"rotation": 33.0, "barrel": 0.1},
        {"rotation": 170.0},
        {"gap": 0.18, "round_field": False},
        {"camera": Camera(DULL, WARM, exposure=0.7, vignette=0.2, blur=1.5, noise=3)},
    ],
    ids=str,
)
def test_tiles_cover_the_chart(options: dict[str, object]) -> None:
    shots = dermoscope_tiles(size=SIZE, **options)  # type: ignore[arg-type]
    found = detect_tiles([shot.rgb for shot in shots])
    for each, shot in zip(found, shots, strict=True):
        assert 6 <= len(each.patches.names) < 24
        assert each.kind == f"{len(each.patches.names)} patches of {COLORCHECKER24.name}"
        assert [COLORCHECKER24.patch_names[place] for place in each.places] == list(each.patches.names)
        assert_right(each, shot)
    joined = merge_patches([each.patches for each in found], COLORCHECKER24)
    assert joined.names == COLORCHECKER24.patch_names
    vignette = joined.linear.mean(axis=1) / np.clip(shots[0].linear, 0, 1).mean(axis=1)
    assert vignette.min() > 0.8
    assert vignette.max() < 1.01


def test_a_whole_chart_is_asked_for_unless_tiles_are_said() -> None:
    shot = through_dermoscope(size=SIZE)
    with pytest.raises(ChartNotFound, match="cut off"):
        detect_chart(shot.rgb)
    assert_right(detect_chart(shot.rgb, kind="tile"), shot)


def test_patches_cut_by_the_field_are_left_out() -> None:
    shot = through_dermoscope(size=SIZE, field_patches=4.2, centre=(2.5, 1.5))
    found = detect_chart(shot.rgb, kind="tile")
    boxes = found.patches.boxes
    distance = np.hypot(boxes[..., 0] - SIZE[1] / 2, boxes[..., 1] - SIZE[0] / 2)
    assert distance.max() < SIZE[0] / 2 - 4
    assert found.patches.variation.max() < 0.05


def test_four_patches_are_placed_once_other_tiles_are_known() -> None:
    small = through_dermoscope(size=SIZE, centre=(4.0, 2.0), field_patches=3.0, rotation=100.0, camera=EVEN)
    with pytest.raises(ChartNotFound, match="2 x 3 whole patches"):
        detect_chart(small.rgb, kind="tile")
    shots = [*dermoscope_tiles(size=SIZE, camera=EVEN), small]
    found = detect_tiles([shot.rgb for shot in shots])
    assert len(found[-1].patches.names) == 4
    assert_right(found[-1], small)


def test_a_picture_without_a_chart_is_named() -> None:
    shots = [shot.rgb for shot in dermoscope_tiles(size=SIZE)[:2]]
    skin = np.full((*SIZE, 3), (190, 140, 120), np.uint8)
    with pytest.raises(ChartNotFound, match=r"^Picture 2 of 3: No chart found"):
        detect_tiles([shots[0], skin, shots[1]])
    with pytest.raises(ChartNotFound, match=r"^Picture 1 of 1: "):
        detect_tiles([skin])


def test_a_covered_patch_in_a_tile_is_refused() -> None:
    shot = through_dermoscope(size=SIZE, field_patches=4.4)
    rgb = shot.rgb.copy()
    x, y = shot.centres[7].astype(int)
    rgb[y - 45 : y + 45, x - 45 : x + 45] = np.random.default_rng(1).normal((40, 120, 60), 2, (90, 90, 3))
    with pytest.raises(ChartNotFound, match="purplish blue"):
        detect_chart(rgb, kind="tile")


def test_a_mirrored_tile_is_refused() -> None:
    shot = through_dermoscope(size=SIZE, field_patches=4.4)
    with pytest.raises(ChartNotFound, match="mirrored"):
        detect_chart(np.ascontiguousarray(shot.rgb[:, ::-1]), kind="tile")


def test_nothing_to_join() -> None:
    assert detect_tiles([]) == []
    with pytest.raises(ChartNotFound, match="no picture"):
        merge_patches([])
