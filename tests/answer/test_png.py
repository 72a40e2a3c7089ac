"""What is encoded comes back from an independent decoder, pixel for pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from agent.answer.png import encode_palette, encode_rgb


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.verify()  # every chunk's checksum
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (685, 1096)])
def test_true_colour_comes_back(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = decoded(encode_rgb(rgb))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), rgb)


def test_views_of_larger_arrays_come_back() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)[2:-3, 4:-5]
    np.testing.assert_array_equal(np.asarray(decoded(encode_rgb(rgb))), rgb)


def test_palette_and_indices_come_back() -> None:
    rng = np.random.default_rng(2)
    index = rng.integers(0, 256, (224, 224), dtype=np.uint8)
    colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    image = decoded(encode_palette(index, colours))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), index)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colours[index])


def test_flat_pictures_become_small() -> None:
    assert len(encode_rgb(np.full((685, 1096, 3), 40, np.uint8))) < 20_000


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_rgb(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        encode_rgb(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="256"):
        encode_palette(np.zeros((4, 4), np.uint8), np.zeros((16, 3), np.uint8))
