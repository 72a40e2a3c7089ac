"""Views have the right geometry and colours, and the fixed ones are what a device computes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from build.bundle_writer import IMAGENET
from engines.preprocess import preprocess
from training.augment import IMAGENET_MEAN, IMAGENET_STD, AugmentConfig, View, fixed_view, picture_in_view, random_view

PLAIN = AugmentConfig(
    crop=(1.0, 1.0), squash_chance=0, brightness=0, contrast=0, saturation=0, hue_degrees=0, erase_chance=0
)


def squashed_circle(size: int = 224, radius: float = 0.3) -> NDArray[np.uint8]:
    """A dark circle on a 4:3 scene, squashed to a square as the copies are."""
    scene = np.full((600, 800, 3), 220, np.uint8)
    cv2.circle(scene, (400, 300), round(600 * radius), (60, 40, 30), -1, cv2.LINE_AA)
    return np.asarray(cv2.resize(scene, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def extent(image: NDArray[np.float32]) -> tuple[int, int]:
    """Width and height of what is dark in an ``[H, W, 3]`` image, in pixels."""
    dark = image[:, :, 1] < (image[:, :, 1].min() + image[:, :, 1].max()) / 2
    return int(dark.any(axis=0).sum()), int(dark.any(axis=1).sum())


def test_centre_crop_gives_a_circle_back() -> None:
    width, height = extent(fixed_view(squashed_circle(), 224, View.CENTRE_CROP))
    assert abs(width - height) <= 2
    assert abs(height - 0.6 * 224) <= 2


def test_squashed_view_leaves_the_copy_as_it_is() -> None:
    copy = squashed_circle()
    width, height = extent(fixed_view(copy, 224, View.SQUASHED))
    assert width / height == pytest.approx(0.75, abs=0.02)
    np.testing.assert_array_equal(picture_in_view(copy, 224, View.SQUASHED), copy)


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("size", [128, 224])
def test_fixed_view_is_what_a_device_computes(view: View, size: int) -> None:
    copy = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    contract = IMAGENET.model_copy(update={"size": size})
    device = preprocess(picture_in_view(copy, size, view), contract)[0].transpose(1, 2, 0)
    np.testing.assert_allclose(fixed_view(copy, size, view), device, atol=1e-5)


@pytest.mark.parametrize("size", [64, 128])
def test_random_views_keep_shape_type_and_range(size: int) -> None:
    rng = np.random.default_rng(0)
    copy = squashed_circle()
    views = [random_view(copy, size, rng, AugmentConfig()) for _ in range(40)]
    assert all(view.shape == (size, size, 3) and view.dtype == np.float32 for view in views)
    assert all(np.isfinite(view).all() and np.abs(view).max() < 8 for view in views)
    assert len({view.tobytes() for view in views}) == len(views)


def test_same_randomness_same_view() -> None:
    copy = squashed_circle()
    one, two = (random_view(copy, 64, np.random.default_rng(5), AugmentConfig()) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_random_view_keeps_proportions_and_colours_where_nothing_is_varied() -> None:
    copy = squashed_circle()
    for seed in range(8):  # any rotation and flip
        view = random_view(copy, 224, np.random.default_rng(seed), PLAIN)
        width, height = extent(view)
        assert abs(width - height) <= 3
        assert abs(height - 0.6 * 224) <= 4
    expected = (np.array([220, 220, 220]) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(np.median(view.reshape(-1, 3), axis=0), expected, atol=0.01)


def test_erasing_hides_a_share_of_the_view() -> None:
    copy = np.full((224, 224, 3), 128, np.uint8)
    config = AugmentConfig(**{**PLAIN.__dict__, "erase_chance": 1.0})
    for seed in range(10):
        view = random_view(copy, 100, np.random.default_rng(seed), config)
        grey = ((128 / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32)
        share = (np.abs(view - grey).max(axis=2) > 1e-3).mean()
        assert 0.01 < share < 0.25
