"""The network's input is what the manifest says, to the last bit that matters."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.manifest import InputContract
from engines.preprocess import centre_square, crop_and_resize, preprocess

CONTRACT = InputContract(
    size=224,
    crop="centre_square",
    resize="area",
    colour_order="RGB",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def normalised(rgb: np.ndarray) -> np.ndarray:
    """The formula as written in the manifest, in double precision: [H, W, 3] to [3, H, W]."""
    scaled: np.ndarray = (rgb / 255.0 - np.array(CONTRACT.mean)) / np.array(CONTRACT.std)
    return scaled.transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(768, 1024, (0, 768), (128, 896)), (5, 2, (1, 3), (0, 2)), (4, 7, (0, 4), (1, 5)), (9, 9, (0, 9), (0, 9))],
)
def test_the_square_is_centred(height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    assert centre_square(height, width) == (slice(*rows), slice(*columns))


def test_values_and_channel_order_are_the_manifests() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    images = preprocess(rgb, CONTRACT)
    assert images.shape == (1, 3, 224, 224)
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    np.testing.assert_allclose(images[0], normalised(rgb), atol=2e-6)


def test_shrinking_averages_areas() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (896, 1000, 3), np.uint8)
    mean = rgb[:, 52:948].reshape(224, 4, 224, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(preprocess(rgb, CONTRACT)[0], normalised(mean), atol=0.51 / 255 / 0.224)


@pytest.mark.parametrize("side", [1400, 1401, 3000])
def test_halving_large_squares_first_changes_next_to_nothing(side: int) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    rgb = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), side / 300), None, 0, 255, cv2.NORM_MINMAX)
    whole = cv2.resize(rgb, (224, 224), interpolation=cv2.INTER_AREA).astype(int)
    difference = np.abs(crop_and_resize(rgb, 224).astype(int) - whole)
    assert difference.max() <= 3
    assert difference.mean() <= 0.5


def test_what_lies_outside_the_square_is_not_seen() -> None:
    rgb = np.full((300, 500, 3), 90, np.uint8)
    rgb[:, :100] = rgb[:, 400:] = 255
    assert np.ptp(preprocess(rgb, CONTRACT)[0, 0]) == 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4000, 3), (200, 201, 3), (3000, 4000, 3)])
def test_any_size_is_taken(shape: tuple[int, int, int]) -> None:
    images = preprocess(np.full(shape, 128, np.uint8), CONTRACT)
    assert images.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(images[0, :, 0, 0], normalised(np.full((1, 1, 3), 128))[:, 0, 0], atol=2e-6)


def test_the_picture_itself_is_not_changed() -> None:
    rgb = np.full((224, 224, 3), 7, np.uint8)
    rgb.flags.writeable = False
    preprocess(rgb, CONTRACT)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8), np.zeros((9, 9, 3))],
)
def test_what_is_no_picture_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        preprocess(bad, CONTRACT)
