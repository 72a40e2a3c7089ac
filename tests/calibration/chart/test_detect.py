"""Synthetic photographs of a chart: found where it lies, measured as it was lit, and each bad one refused in words."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.chart import ChartNotFound, Detection, detect_chart
from calibration.chart import detect as module
from calibration.chart.blobs import Blobs
from calibration.chart.detect import Kind
from calibration.reference_files import read_reference
from calibration.references import COLORCHECKER24, ReferenceChart
from tests.fakes.charts import DULL, WARM, Camera, ChartShot, render_chart, shots_at

SIZE = (480, 720)


@pytest.fixture(scope="module")
def plain() -> ChartShot:
    return render_chart(size=SIZE)


def place_error(found: Detection, shot: ChartShot) -> float:
    """Largest distance of a box's middle from the patch's, in sides of the box."""
    middle = found.patches.boxes.mean(axis=1)
    truth = shot.centres[[shot.names.index(name) for name in found.patches.names]]
    side = np.hypot(*(found.patches.boxes[:, 1] - found.patches.boxes[:, 0]).T).min()
    return float(np.hypot(*(middle - truth).T).max() / side)


def sentence(rgb: NDArray[np.uint8], **options: object) -> str:
    with pytest.raises(ChartNotFound) as caught:
        detect_chart(rgb, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 200
    return text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rotation": 90.0},
        {"rotation": 180.0},
        {"rotation": 33.0, "fill": 0.9},
        {"rotation": -120.0, "tilt": 0.3},
        {"gap": 0.1},
        {"gap": 0.35},
        {"fill": 0.2},
        {"background": 0.02},
        {"background": 0.9},
        {"camera": Camera(DULL, WARM, exposure=0.6)},
        {"camera": Camera(noise=10.0)},
        {"camera": Camera(blur=2.0)},
        {"camera": Camera(vignette=0.5)},
        {"camera": Camera(exposure=0.12)},
    ],
    ids=str,
)
def test_found_where_it_lies(options: dict[str, object]) -> None:
    shot = render_chart(size=SIZE, **options)  # type: ignore[arg-type]
    found = detect_chart(shot.rgb)
    assert found.how == "grid"
    assert found.patches.names == COLORCHECKER24.patch_names
    assert place_error(found, shot) < 0.15
    width = float(np.hypot(*(shot.corners[1] - shot.corners[0])))
    assert np.abs(found.corners - shot.corners).max() < 0.03 * width
    wanted = np.degrees(np.arctan2(*(shot.corners[1] - shot.corners[0])[::-1]))
    assert abs((found.turned - wanted + 180) % 360 - 180) < 1.0


def test_the_colours_are_those_recorded(plain: ChartShot) -> None:
    found = detect_chart(plain.rgb)
    np.testing.assert_allclose(found.patches.linear, np.clip(plain.linear, 0, 1), atol=0.003)
    assert not found.patches.clipped.any()
    assert not found.patches.crushed.any()
    assert found.patches.variation.max() < 0.02
    assert found.difference.shape == (24,)
    assert found.kind == COLORCHECKER24.name


def test_rgb_stays_rgb(plain: ChartShot) -> None:
    """OpenCV speaks BGR; a chart read so would still be "found" with red and blue exchanged."""
    patches = detect_chart(plain.rgb).patches
    red, blue = patches.rgb[patches.names.index("red")], patches.rgb[patches.names.index("blue")]
    assert red.argmax() == 0
    assert blue.argmax() == 2


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_finds_a_whole_chart(plain: ChartShot, kind: Kind) -> None:
    assert len(detect_chart(plain.rgb, kind=kind).patches.names) == 24


def test_the_same_picture_gives_the_same_answer(plain: ChartShot) -> None:
    first, second = detect_chart(plain.rgb), detect_chart(plain.rgb[:, :, :].copy())
    assert np.array_equal(first.patches.linear, second.patches.linear)
    assert np.array_equal(first.patches.boxes, second.patches.boxes)


def test_a_view_with_strides_is_taken(plain: ChartShot) -> None:
    turned = plain.rgb[::-1, ::-1]
    assert abs(abs(detect_chart(turned).turned) - 180) < 1


def test_measured_at_full_resolution() -> None:
    shot = render_chart(size=(1500, 2000))
    found = detect_chart(shot.rgb)
    assert place_error(found, shot) < 0.05
    assert np.hypot(*(found.patches.boxes[0, 1] - found.patches.boxes[0, 0])) > 80


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mirrored": True}, "mirrored"),
        ({"shift": (0.35, 0.0)}, "cut off, blue flower, bluish green"),
        ({"shift": (0.0, -0.4)}, "cut off, dark skin"),
        ({"covered": ("red",)}, "Not the chart's colour at red:"),
        ({"covered": COLORCHECKER24.patch_names[:7]}, "dark skin, light skin"),
        ({"camera": Camera(exposure=2.6)}, "over-exposed"),
        ({"camera": Camera(exposure=8.0)}, "over-exposed"),
        ({"camera": Camera(exposure=0.04)}, "under-exposed"),
        ({"camera": Camera(exposure=0.004)}, "too dark"),
        ({"camera": Camera(blur=9.0)}, "blurred"),
        ({"camera": Camera(blur=25.0)}, "sharp"),
        ({"camera": Camera(noise=0.0)}, "drawing or a screenshot"),
        ({"fill": 0.12}, "too small"),
        ({"fill": 0.03}, "No chart found"),
    ],
    ids=str,
)
def test_a_chart_that_cannot_be_used_says_why(options: dict[str, object], words: str) -> None:
    assert words in sentence(render_chart(size=SIZE, **options).rgb)  # type: ignore[arg-type]


def test_a_shot_a_little_too_bright_is_found_and_its_patches_marked() -> None:
    patches = detect_chart(render_chart(size=SIZE, camera=Camera(exposure=1.25)).rgb).patches
    assert "white" in np.array(patches.names)[patches.clipped]
    assert not patches.clipped[patches.names.index("neutral 5")]


def test_clipped_and_crushed_are_told_apart_by_exposure() -> None:
    bright, dark = (detect_chart(shot.rgb).patches for shot in shots_at((1.25, 0.08)))
    assert bright.clipped.any()
    assert not bright.crushed.any()
    assert not dark.clipped.any()


def test_two_charts(plain: ChartShot) -> None:
    other = render_chart(size=SIZE, rotation=20.0, seed=1)
    assert "2 charts" in sentence(np.hstack([plain.rgb, other.rgb]))
    assert "2 charts" in sentence(np.vstack([plain.rgb, plain.rgb])), "in line with each other, one grid"


def test_grey_only(plain: ChartShot) -> None:
    grey = np.repeat(plain.rgb.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert "no colours" in sentence(grey)


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_exchanged_channels_are_refused(plain: ChartShot, order: tuple[int, ...]) -> None:
    """A 3x3 matrix can put them right, so the residuals alone would not tell."""
    assert "exchanged" in sentence(plain.rgb[..., list(order)])


@pytest.mark.parametrize(
    ("value", "words"), [(0, "too dark"), (255, "over-exposed"), (120, "no colours")], ids=["black", "white", "grey"]
)
def test_nothing_at_all(value: int, words: str) -> None:
    assert words in sentence(np.full((*SIZE, 3), value, np.uint8))


def test_something_else_altogether() -> None:
    random = np.random.default_rng(3)
    assert "No chart found" in sentence(random.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    tiles = np.kron(random.integers(0, 256, (12, 18, 3)), np.ones((40, 40, 1))).astype(np.int64)
    tiles += random.integers(-3, 4, tiles.shape)
    assert "No chart found" in sentence(tiles.clip(0, 255).astype(np.uint8)), "a grid, but of other colours"


def test_a_picture_too_small_and_no_picture(plain: ChartShot) -> None:
    assert "too small" in sentence(plain.rgb[::6, ::6])
    with pytest.raises(ValueError, match="uint8"):
        detect_chart(plain.rgb.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[480, 720\]"):
        detect_chart(plain.rgb[..., 0])
    with pytest.raises(ValueError, match="none of auto"):
        detect_chart(plain.rgb, kind="large")  # type: ignore[arg-type]


class TestCorners:
    def test_in_any_order(self, plain: ChartShot) -> None:
        for order in ((0, 1, 2, 3), (2, 0, 3, 1), (3, 2, 1, 0)):
            found = detect_chart(plain.rgb, corners=plain.corners[list(order)])
            assert found.how == "corners"
            assert place_error(found, plain) < 0.15

    def test_roughly(self, plain: ChartShot) -> None:
        off = plain.corners + np.array([[8, -8], [-8, 6], [8, 8], [-7, -8]])
        assert place_error(detect_chart(plain.rgb, corners=off), plain) < 0.15

    def test_where_the_search_cannot_see_the_patches(self, plain: ChartShot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "find_blobs", lambda *_: Blobs(np.empty((0, 2)), np.empty(0)))
        assert place_error(detect_chart(plain.rgb, corners=plain.corners), plain) < 0.2

    def test_upside_down_and_turned(self) -> None:
        for rotation in (180.0, 90.0, 40.0):
            shot = render_chart(size=SIZE, rotation=rotation)
            assert place_error(detect_chart(shot.rgb, corners=shot.corners), shot) < 0.15

    def test_still_judged_by_colour(self, plain: ChartShot) -> None:
        assert "check the four corners" in sentence(plain.rgb, corners=[(5, 5), (300, 5), (300, 200), (5, 200)])
        shot = render_chart(size=SIZE, covered=("red",))
        assert "red" in sentence(shot.rgb, corners=shot.corners)
        mirrored = render_chart(size=SIZE, mirrored=True)
        assert "mirrored" in sentence(mirrored.rgb, corners=mirrored.corners)

    @pytest.mark.parametrize(
        ("corners", "words"),
        [
            ([(1, 2), (3, 4)], "Four corners"),
            ("somewhere", "Four corners"),
            ([(1, 2), (3, float("nan")), (5, 6), (7, 8)], "Four corners"),
            ([(1, 2), (9000, 4), (5, 6), (7, 8)], "9000,4 lies outside"),
            ([(10, 10), (20, 10), (20, 20), (10, 20)], "span no chart"),
            ([(10, 10), (300, 10), (300, 300), (290, 30)], "span no chart"),
        ],
    )
    def test_impossible(self, plain: ChartShot, corners: object, words: str) -> None:
        assert words in sentence(plain.rgb, corners=corners)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> ReferenceChart:
    """A vendor's own small chart from a file."""
    chosen = ["red", "green", "blue", "yellow", "white", "neutral 5", "black", "cyan", "light skin", "dark skin"]
    index = [COLORCHECKER24.patch_names.index(name) for name in chosen]
    patches = [{"name": n, "lab": COLORCHECKER24.lab_d50[i].tolist()} for n, i in zip(chosen, index, strict=True)]
    path = tmp_path_factory.mktemp("target") / "own.json"
    path.write_text(json.dumps({"name": "own", "rows": 2, "columns": 5, "patches": patches}))
    return read_reference(path)


def test_an_own_target_is_found(own: ReferenceChart) -> None:
    shot = render_chart(own, size=SIZE, rotation=25.0, camera=Camera(DULL, WARM))
    found = detect_chart(shot.rgb, target=own)
    assert found.patches.names == own.patch_names
    assert found.kind == "own"
    assert place_error(found, shot) < 0.15


def test_an_own_target_and_the_classic_are_not_confused(own: ReferenceChart, plain: ChartShot) -> None:
    sentence(plain.rgb, target=own)
    sentence(render_chart(own, size=SIZE).rgb)


def test_patches_without_a_frame_between_them(own: ReferenceChart) -> None:
    shot = render_chart(own, size=SIZE, gap=0.0)
    assert place_error(detect_chart(shot.rgb, target=own), shot) < 0.15
