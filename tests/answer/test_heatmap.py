"""The heatmap: size, place, colours, weight."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from agent.answer.heatmap import colour_table, heatmap_png, intensity

Attention = NDArray[np.float32]


def test_the_png_is_a_small_palette_picture(attention: Attention) -> None:
    data = heatmap_png(attention)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode, image.size) == ("PNG", "P", (224, 224))
    assert len(data) <= 10_000
    assert image.getpalette() == colour_table().reshape(-1).tolist()
    index = np.asarray(image)
    assert (index.min(), index.max()) == (0, 255)


def test_the_brightest_place_is_where_the_attention_is(attention: Attention) -> None:
    index = np.asarray(Image.open(io.BytesIO(heatmap_png(attention)))).astype(float)
    rows, columns = np.mgrid[:224, :224]
    high = index > 200
    assert rows[high].mean() == pytest.approx((5 + 0.5) * 16, abs=4)
    assert columns[high].mean() == pytest.approx((9 + 0.5) * 16, abs=4)


def test_the_colours_rise_in_lightness() -> None:
    lab = cv2.cvtColor(colour_table().reshape(1, 256, 3).astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    steps = np.diff(lab[:, 0])
    assert steps.min() > -0.3  # 8-bit rounding
    assert np.diff(lab[::8, 0]).min() > 0
    # Perceptually uniform: no step between colours is far from the mean one.
    apart = np.linalg.norm(np.diff(lab[::8], axis=0), axis=1)
    assert apart.max() < 2.0 * apart.mean()


def test_a_single_outlier_does_not_darken_the_rest(attention: Attention) -> None:
    spiked = attention.copy()
    spiked[0, 0] = 50 * attention.max()
    quiet = intensity(attention)[60:140, 100:200]
    assert np.abs(intensity(spiked)[60:140, 100:200] - quiet).mean() < 0.1


@pytest.mark.parametrize("value", [0.0, 1 / 196, np.nan])
def test_a_map_without_differences_shows_nothing(value: float) -> None:
    assert not intensity(np.full((14, 14), value, np.float32)).any()


def test_intensity_stays_within_bounds() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        values = intensity(rng.random((14, 14)).astype(np.float32) ** 4)
        assert values.min() >= 0.0
        assert values.max() <= 1.0


def test_a_stored_heatmap_serves_as_attention(attention: Attention) -> None:
    stored = np.asarray(Image.open(io.BytesIO(heatmap_png(attention))))
    assert np.abs(intensity(stored, 224) - intensity(attention, 224)).max() <= 1.1 / 63
