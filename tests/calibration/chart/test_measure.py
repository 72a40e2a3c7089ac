"""What is said about a patch: its colour, its evenness, and whether the sensor's range was left; and joining shots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.chart import ChartNotFound, Patches, evened, merge_patches
from calibration.chart.measure import measure, sample
from calibration.colour import srgb_to_linear
from calibration.references import COLORCHECKER24

WHITE, RED = COLORCHECKER24.patch_names.index("white"), COLORCHECKER24.patch_names.index("red")


def square(x: float, y: float, side: float) -> NDArray[np.float64]:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]])


def one(rgb: NDArray[np.uint8], patch: int = RED) -> Patches:
    height, width = rgb.shape[:2]
    return measure(rgb, square(0, 0, min(height, width) - 1)[None], np.array([patch]), COLORCHECKER24)


def test_means_in_both_scales() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, ::2], rgb[:, 1::2] = (100, 50, 0), (200, 50, 0)
    patches = one(rgb)
    np.testing.assert_allclose(patches.rgb[0], [150 / 255, 50 / 255, 0], atol=0.01)
    expected = srgb_to_linear(np.array([100, 200]) / 255).mean()
    assert patches.linear[0, 0] == pytest.approx(expected, rel=0.03), "the mean is taken in light, not in code values"
    assert patches.names == ("red",)
    assert patches.boxes.dtype == np.float32


def test_noise_is_no_unevenness_and_a_slope_is() -> None:
    noise = np.random.default_rng(0).normal(128, 12, (128, 128, 3)).clip(0, 255).astype(np.uint8)
    assert one(noise).variation[0] < 0.02
    slope = np.repeat(np.linspace(110, 140, 128)[None, :, None], 128, axis=0).repeat(3, axis=2).astype(np.uint8)
    assert one(slope).variation[0] > 0.1
    small = np.random.default_rng(0).normal(128, 12, (24, 24, 3)).clip(0, 255).astype(np.uint8)
    assert one(small).variation[0] < 0.03, "few pixels: fewer parts, still not taken for uneven"


def test_black_is_not_called_uneven_for_a_level_of_noise() -> None:
    black = np.random.default_rng(0).integers(6, 10, (64, 64, 3)).astype(np.uint8)
    assert one(black).variation[0] < 0.02


@pytest.mark.parametrize(
    ("colour", "patch", "clipped", "crushed"),
    [
        ((255, 200, 100), RED, True, False),
        ((253, 200, 100), RED, False, False),
        ((0, 0, 0), RED, False, True),
        ((0, 120, 150), RED, False, False),
        ((0, 120, 150), WHITE, False, True),
        ((30, 30, 30), WHITE, False, False),
    ],
)
def test_clipped_and_crushed(colour: tuple[int, ...], patch: int, clipped: bool, crushed: bool) -> None:
    """A saturated colour may have an empty channel (sRGB cannot show the chart's cyan); a grey patch may not."""
    patches = one(np.full((64, 64, 3), colour, np.uint8), patch)
    assert (bool(patches.clipped[0]), bool(patches.crushed[0])) == (clipped, crushed)


def test_a_few_hot_pixels_are_forgiven() -> None:
    rgb = np.full((64, 64, 3), 120, np.uint8)
    rgb.reshape(-1, 3)[:40] = 255
    assert not one(rgb).clipped[0]
    rgb.reshape(-1, 3)[:200] = 255
    assert one(rgb).clipped[0]


def test_samples_lie_inside_a_turned_box() -> None:
    rgb = np.zeros((100, 100, 3), np.uint8)
    yy, xx = np.mgrid[0:100, 0:100]
    rgb[np.abs(xx - 50) + np.abs(yy - 50) <= 31] = 200
    diamond = np.array([[[50.0, 20.0], [80.0, 50.0], [50.0, 80.0], [20.0, 50.0]]])
    assert (sample(rgb, diamond) == 200).all()


def test_evened_light() -> None:
    rgb = np.full((64, 64, 3), 120, np.uint8)
    rgb[:, 32:] = 100
    patches = one(rgb)

    def gain(_rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
        step = srgb_to_linear(120 / 255) / srgb_to_linear(100 / 255)
        return np.where(columns >= 32, step, 1.0)[..., None] * np.ones(3)

    even = evened(rgb, patches, gain)
    assert patches.variation[0] > 0.1
    assert even.variation[0] < 1e-9
    np.testing.assert_allclose(even.rgb, 120 / 255)
    assert np.array_equal(even.clipped, patches.clipped)


class TestMerge:
    def shot(self, names: list[str], level: float = 0.2) -> Patches:
        count = len(names)
        linear = np.full((count, 3), level)
        flags = np.zeros(count, dtype=bool)
        boxes = np.zeros((count, 4, 2), np.float32)
        return Patches(tuple(names), linear.copy(), linear, np.zeros(count), flags, flags, boxes)

    def test_in_the_charts_order(self) -> None:
        names = list(COLORCHECKER24.patch_names)
        joined = merge_patches([self.shot(names[12:]), self.shot(names[:14])], COLORCHECKER24)
        assert joined.names == COLORCHECKER24.patch_names
        assert joined.linear.shape == (24, 3)
        assert joined.boxes.dtype == np.float32
        assert joined.clipped.dtype == np.bool_

    def test_mean_of_colours_and_the_worst_of_the_rest(self) -> None:
        first, second = self.shot(["red"], 0.20), self.shot(["red"], 0.22)
        second = replace(second, variation=np.array([0.04]), clipped=np.array([True]))
        joined = merge_patches([first, second])
        assert joined.linear[0, 0] == pytest.approx(0.21)
        assert joined.variation[0] == 0.04
        assert joined.clipped[0]
        assert not joined.crushed[0]

    def test_missing_patches_are_named(self) -> None:
        with pytest.raises(ChartNotFound, match="No shot shows cyan and black:"):
            merge_patches(
                [self.shot([n for n in COLORCHECKER24.patch_names if n not in ("cyan", "black")])], COLORCHECKER24
            )

    def test_shots_that_disagree(self) -> None:
        with pytest.raises(ChartNotFound, match=r"disagree about red by 25%.*fix exposure"):
            merge_patches([self.shot(["red"], 0.3), self.shot(["red"], 0.4)])
        merge_patches([self.shot(["red"], 0.010), self.shot(["red"], 0.014)])
