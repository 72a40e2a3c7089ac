"""A picture of what was found: the chart's outline and the sampled area of every patch, for the technician's eye."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.chart.blobs import Picture
from calibration.chart.detect import Detection

Points = NDArray[np.float32] | NDArray[np.float64]

OUTLINE: Final = (255, 255, 255)
GOOD: Final = (0, 220, 0)
WARNED: Final = (255, 150, 0)
VARIES: Final = 0.05
LONGEST_SIDE: Final = 1600
SMALLEST_SIDE: Final = 900
"""A small picture is enlarged to this, so that the numbers can be read."""


def draw_detection(rgb: Picture, detection: Detection, *, longest: int = LONGEST_SIDE) -> Picture:
    """Draw a detection over its picture.

    Args:
        rgb: uint8 [H,W,3], RGB, the picture it was found in; not changed.
        detection: what was found.
        longest: pixels of the longer side of the result; a larger picture is reduced, a small one enlarged.

    Returns:
        uint8 [h,w,3], RGB: boxes numbered as on the chart, green; orange where a patch is clipped, crushed or varies by
        more than 5 %.
    """
    height, width = rgb.shape[:2]
    scale = min(longest, max(SMALLEST_SIDE, height, width)) / max(height, width)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas: Picture = np.array(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=method), dtype=np.uint8)
    patches = detection.patches
    line = max(1, round(max(canvas.shape[:2]) / 500))
    _polygon(canvas, detection.corners * scale, OUTLINE, line)
    for index, box in enumerate(patches.boxes * scale):
        bad = patches.clipped[index] or patches.crushed[index] or patches.variation[index] > VARIES
        colour = WARNED if bad else GOOD
        _polygon(canvas, box, (0, 0, 0), line + 2)
        _polygon(canvas, box, colour, line)
        side = float(np.hypot(*(box[1] - box[0])))
        if side >= 14:
            _number(canvas, box.mean(axis=0), int(detection.places[index]) + 1, side / 60, colour)
    return canvas


def _polygon(canvas: Picture, points: Points, colour: tuple[int, int, int], line: int) -> None:
    cv2.polylines(canvas, [np.rint(points).astype(np.int32)], True, colour, line, cv2.LINE_AA)


def _number(canvas: Picture, centre: Points, number: int, size: float, colour: tuple[int, int, int]) -> None:
    """A number with a dark rim, readable on white and on black."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, float(np.clip(size, 0.3, 1.5))
    (wide, high), _ = cv2.getTextSize(str(number), font, scale, 1)
    at = (round(float(centre[0]) - wide / 2), round(float(centre[1]) + high / 2))
    cv2.putText(canvas, str(number), at, font, scale, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(canvas, str(number), at, font, scale, colour, 1, cv2.LINE_AA)
