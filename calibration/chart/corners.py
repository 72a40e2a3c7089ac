"""A grid from four corners: those a technician gives, or those of the box another detector drew."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.chart.blobs import Blobs, FloatArray
from calibration.chart.failures import ChartNotFound
from calibration.chart.lattice import Lattice, project

PATCH_SHARE: Final = 0.78
"""Patch side over pitch that is assumed before the picture tells: classic 0.85, Nano 0.68."""
SNAP: Final = 0.3
"""A patch found within this distance (in pitches) of where the corners put it tells the place better."""


def ordered_corners(corners: ArrayLike, width: int, height: int) -> FloatArray:
    """Four points clockwise as seen, whatever order they were given in: float64 [4,2].

    Raises:
        ChartNotFound: not four points, outside the picture, or no quadrilateral that a chart could be seen as.
    """
    try:
        points = np.array(corners, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.shape != (4, 2) or not np.isfinite(points).all():
        raise ChartNotFound("Four corners are needed, each as x,y in pixels: the outer corners of the corner patches.")
    for x, y in points:
        if not (-1 <= x <= width and -1 <= y <= height):
            raise ChartNotFound(
                f"The corner {x:g},{y:g} lies outside the picture of {width} x {height} pixels: give x,y in pixels."
            )
    away = points - points.mean(axis=0)
    points = points[np.argsort(np.arctan2(away[:, 1], away[:, 0]))]
    outline = points.astype(np.float32)
    if not cv2.isContourConvex(outline) or cv2.contourArea(outline) < 48**2:
        raise ChartNotFound("The four corners span no chart: give the outer corners of the four corner patches.")
    return points


def lattices_from_corners(corners: FloatArray, rows: int, columns: int, blobs: Blobs) -> list[Lattice]:
    """The grids that four corners (clockwise) can mean: the chart along the first side, or across it.

    Args:
        corners: float64 [4,2]: outer corners of the corner patches.
        rows: of patches of the chart.
        columns: of patches of the chart.
        blobs: patch-like areas found in the same picture; the grid is pulled onto those that lie near its nodes.
    """
    shapes = [(columns, rows)] if columns == rows else [(columns, rows), (rows, columns)]
    return [_snapped(corners, wide, high, blobs) for wide, high in shapes]


def _snapped(corners: FloatArray, wide: int, high: int, blobs: Blobs) -> Lattice:
    low, right, bottom = -PATCH_SHARE / 2, wide - 1 + PATCH_SHARE / 2, high - 1 + PATCH_SHARE / 2
    frame = np.array([[low, low], [right, low], [right, bottom], [low, bottom]], dtype=np.float32)
    homography = cv2.getPerspectiveTransform(frame, corners.astype(np.float32)).astype(np.float64)
    nodes = np.array([[column, row] for row in range(high) for column in range(wide)], dtype=np.int64)
    points = project(homography, nodes.astype(np.float64))
    side = PATCH_SHARE * 0.9
    if len(blobs.sides):
        back = project(np.asarray(np.linalg.inv(homography), dtype=np.float64), blobs.centres)
        gap = np.hypot(*np.moveaxis(back[None] - nodes[:, None], -1, 0))
        pitch = np.sqrt(cv2.contourArea(corners.astype(np.float32)) / (wide * high))
        gap[:, (blobs.sides > 1.1 * pitch) | (blobs.sides < 0.3 * pitch)] = np.inf
        nearest = gap.argmin(axis=1)
        hit = gap[np.arange(len(nodes)), nearest] < SNAP
        if hit.sum() >= 0.5 * len(nodes):
            points = np.where(hit[:, None], blobs.centres[nearest], points)
            refined, _ = cv2.findHomography(nodes[hit].astype(np.float64), points[hit], 0)
            if refined is not None and np.isfinite(refined).all():
                homography = np.asarray(refined, dtype=np.float64)
                points = np.where(hit[:, None], points, project(homography, nodes.astype(np.float64)))
                side = float(np.median(blobs.sides[nearest[hit]])) / float(pitch)
    return Lattice(nodes, points, homography, float(np.clip(side, 0.3, 0.95)))


def as_corners(box: NDArray[np.float64]) -> FloatArray:
    """A detector's box as four corners, clockwise; unlike a technician's, it may reach over the picture's edge."""
    away = box - box.mean(axis=0)
    return np.asarray(box[np.argsort(np.arctan2(away[:, 1], away[:, 0]))], dtype=np.float64)
