"""Find patch-like areas in a picture: flat, filled, about as wide as high, with an edge all round.

They are looked for at several edge strengths, so that a dim chart and a bright one both give theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Picture = NDArray[np.uint8]

EDGE_LEVELS: Final = (3, 6, 10, 16, 26)
"""8-bit steps within a 3x3 neighbourhood above which a pixel belongs to an edge."""
SMALLEST_SIDE: Final = 5.0
LARGEST_AREA: Final = 0.12
"""Of the picture: a patch of a chart that fits in the picture, or of a tile with at least 2 x 2 patches, is smaller."""
MOST_BLOBS: Final = 600
CUT_OFF: Final = 0.56
"""Distance from an area's middle to the edge of the field, in its sides, up to which the edge has cut it."""


@dataclass(frozen=True)
class Blobs:
    """Patch-like areas: centres float64 [K,2] (x, y in pixels) and sides float64 [K] (of the edge-free part)."""

    centres: FloatArray
    sides: FloatArray


def find_blobs(rgb: Picture, field: Picture | None = None) -> Blobs:
    """Areas without edges that are convex, filled and about as wide as high, each once.

    Args:
        rgb: uint8 [H,W,3]; about 900 pixels on the longer side is enough and quick.
        field: uint8 [H,W], 0 outside a dermoscope's field of view; what its edge cuts off is left out.
    """
    smooth = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    edges = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2)
    found = [blob for level in EDGE_LEVELS for blob in _blobs_at((edges <= level).astype(np.uint8))]
    found.sort(key=lambda blob: -blob[3])
    kept: list[tuple[float, float, float, float]] = []
    centres = np.empty((0, 2))
    for x, y, side, fill in found[: 4 * MOST_BLOBS]:
        if len(kept) == MOST_BLOBS:
            break
        near = np.hypot(*(centres - (x, y)).T) < 0.4 * side
        if not near.any():
            kept.append((x, y, side, fill))
            centres = np.vstack([centres, (x, y)])
    table = np.array(kept).reshape(-1, 4)
    if field is not None and len(table):
        depth = cv2.distanceTransform(field, cv2.DIST_L2, 3)
        x, y = np.rint(table[:, :2].T).astype(np.int64)
        table = table[depth[y, x] > CUT_OFF * table[:, 2]]
    return Blobs(table[:, :2], table[:, 2])


def _blobs_at(flat: NDArray[np.uint8]) -> list[tuple[float, float, float, float]]:
    """(x, y, side, how well it fills its rectangle) of each patch-like area of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    width, height, area = stats[:, 2], stats[:, 3], stats[:, 4]
    likely = (
        (area >= SMALLEST_SIDE**2) & (area <= LARGEST_AREA * flat.size) & (width < 4 * height) & (height < 4 * width)
    )
    likely &= (area > 0.3 * width * height) & (np.arange(count) > 0)
    # What the picture's edge cuts off has its middle elsewhere.
    likely &= (stats[:, 0] > 0) & (stats[:, 1] > 0)
    likely &= (stats[:, 0] + width < flat.shape[1]) & (stats[:, 1] + height < flat.shape[0])
    found = []
    for index in np.flatnonzero(likely)[: 4 * MOST_BLOBS]:
        x, y, w, h = (int(value) for value in stats[index, :4])
        outlines, _ = cv2.findContours(
            (labels[y : y + h, x : x + w] == index).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        outline = max(outlines, key=len)
        (centre_x, centre_y), (long, short), _ = cv2.minAreaRect(outline)
        long, short = max(long, short), min(long, short)
        filled, hull = cv2.contourArea(outline), cv2.contourArea(cv2.convexHull(outline))
        if short < SMALLEST_SIDE - 1 or long > 2.2 * short or filled < 0.85 * hull or filled < 0.72 * long * short:
            continue
        found.append((x + centre_x, y + centre_y, float(np.sqrt(long * short)), filled / (long * short)))
    return found


def field_of_view(rgb: Picture) -> NDArray[np.uint8]:
    """The convex area that a dermoscope lights, 1 inside: uint8 [H,W]."""
    light = cv2.medianBlur(rgb, 5).max(axis=2)
    lit = np.argwhere(light > 24)[:, ::-1].astype(np.int32)
    mask: NDArray[np.uint8] = np.zeros(light.shape, np.uint8)
    if len(lit) >= 3:
        cv2.fillConvexPoly(mask, cv2.convexHull(lit), 1)
    return mask
