"""Making pictures smaller at little cost: for the quality figures, the preview and the overlay."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
"""``[H, W, 3]`` uint8, sRGB."""
PREVIEW_SIDE: Final = 512
"""Pixels of its longer side, which is as large as an overlay shows a picture (`agent.answer.overlay.PANEL_WIDTH`)."""


def shrink(rgb: RGB, height: int, width: int) -> RGB:
    """Resize ``rgb`` to exactly ``height`` x ``width``, which must not be larger than it is.

    Halves by exact 2 x 2 means while the target allows, then takes one area-weighted step. OpenCV has a vectorised path
    for exact halves only: 4000 x 3000 to 720 x 540 costs 4 ms this way and 26 ms in one area step, and unlike plain
    bilinear sampling it averages over every source pixel, so that nothing aliases.

    The result may be ``rgb`` itself where nothing had to be done.
    """
    rgb = halve_above(rgb, height, width)
    if rgb.shape[:2] == (height, width):
        return rgb
    return _resize(rgb, height, width, cv2.INTER_AREA)


def halve_above(rgb: RGB, height: int, width: int) -> RGB:
    """Halve ``rgb`` by exact 2 x 2 means for as long as it stays at least ``height`` x ``width``."""
    while rgb.shape[0] >= 2 * height and rgb.shape[1] >= 2 * width:
        rgb = _halve(rgb)
    return rgb


def preview(rgb: RGB) -> RGB:
    """The picture small enough to be kept for its overlay, which it does not change; ``rgb`` itself where it is.

    Halved by exact 2 x 2 means for as long as its long side stays at least 512 pixels: below 1024 then.
    """
    height, width = fit(rgb.shape[0], rgb.shape[1], PREVIEW_SIDE, PREVIEW_SIDE)
    return halve_above(rgb, height, width)


def fit(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    """The largest size of the same aspect within the given box, never larger than the picture: ``(height, width)``."""
    scale = min(1.0, max_height / height, max_width / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _halve(rgb: RGB) -> RGB:
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    # An odd last row or column is cut off: only exact halves take the fast path.
    return _resize(rgb[: 2 * height, : 2 * width], height, width, cv2.INTER_AREA)


def _resize(rgb: RGB, height: int, width: int, interpolation: int) -> RGB:
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=interpolation), dtype=np.uint8)
