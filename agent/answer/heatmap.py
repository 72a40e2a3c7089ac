"""The model's attention as a heatmap: 14 x 14 numbers to a 224 x 224 palette PNG."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.answer.png import encode_palette

Attention = NDArray[np.float32]
"""``[14, 14]`` float32: the class token's attention over the patches, row 0 at the top."""

SIZE: Final = 224
LEVELS: Final = 64
"""Steps of the heatmap: finer ones cannot be told apart by eye and double the PNG (measured: 38 KB at 256)."""
LOW_PERCENTILE: Final = 2.0
HIGH_PERCENTILE: Final = 99.0


def intensity(attention: Attention | NDArray[np.uint8], size: int = SIZE) -> NDArray[np.float32]:
    """The attention scaled to 0..1 and enlarged: ``[size, size]`` float32.

    ``uint8`` is taken for a stored heatmap's indices, which are intensities already and are only resized.

    Scaled between its 2nd and 99th percentile rather than between its extremes: vision transformers put outliers on
    single background patches (Darcet et al., "Vision transformers need registers", 2024), and one of them would
    darken all the rest. Enlarged bicubically and clipped to 0..1, as cubic interpolation overshoots. A map without
    differences (or numbers) is 0 everywhere: it shows nothing rather than noise.
    """
    if attention.dtype == np.uint8:
        return _resized(np.asarray(attention, dtype=np.float32) / np.float32(255.0), size)
    finite = np.nan_to_num(np.asarray(attention, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = (float(value) for value in np.percentile(finite, (LOW_PERCENTILE, HIGH_PERCENTILE)))
    if high - low <= 1e-9:
        return np.zeros((size, size), dtype=np.float32)
    return _resized(np.clip((finite - low) / (high - low), 0.0, 1.0), size)


def _resized(scaled: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    large = np.asarray(cv2.resize(scaled, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    return np.clip(large, 0.0, 1.0, out=large)


@lru_cache(maxsize=1)
def colour_table() -> NDArray[np.uint8]:
    """Viridis, ``[256, 3]`` uint8 RGB: perceptually uniform, lighter with the index, safe for the colour-blind.

    Chosen over inferno because its blues, greens and yellows do not occur in skin.
    """
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256)
    bgr = cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS).reshape(256, 3)
    table = np.ascontiguousarray(bgr[:, ::-1]).astype(np.uint8, copy=False)
    table.setflags(write=False)
    return table


def heatmap_png(attention: Attention) -> bytes:
    """The heatmap as an 8-bit palette PNG, 224 x 224. A pixel's index is its intensity (0..255), its colour viridis."""
    steps = np.rint(intensity(attention) * (LEVELS - 1))
    index = np.rint(steps * (255.0 / (LEVELS - 1))).astype(np.uint8)
    return encode_palette(index, colour_table())
