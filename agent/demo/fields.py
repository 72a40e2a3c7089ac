"""Random fields that the simulated pictures are made of: clouds, cells and brushed noise, each fast at any size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""``[H, W]`` float32."""
Shape = tuple[int, int]
"""Height and width in pixels."""
Random = np.random.Generator


def clouds(rng: Random, shape: Shape, cells: float, octaves: int = 3, gain: float = 0.5) -> Field:
    """Fractal noise of that shape, mean about 0, standard deviation about 1.

    ``cells`` is how many blobs of the coarsest octave fit the short side; each octave doubles it.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    short, weight, power = min(height, width), 1.0, 0.0
    for octave in range(octaves):
        count = cells * 2**octave
        rows, columns = max(2, round(height / short * count)) + 3, max(2, round(width / short * count)) + 3
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        if rows > height or columns > width:
            break
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        power += weight * weight
        weight *= gain
    # Cubic interpolation between independent values keeps about 0.6 of their spread.
    return np.asarray(total / (0.65 * max(power, 1e-6) ** 0.5), np.float32)


def cell_walls(rng: Random, shape: Shape, cell: float, jitter: float = 0.33) -> Field:
    """Distance in pixels to the nearest wall of a honeycomb of about ``cell`` pixels across.

    The cells are the Voronoi regions of a jittered hexagonal lattice, found by a labelled distance transform.
    """
    height, width = shape
    rows, columns = int(height / (cell * 0.866)) + 3, int(width / cell) + 3
    y = (np.arange(rows, dtype=np.float32)[:, None] - 0.5) * cell * 0.866 + np.zeros((1, columns), np.float32)
    x = (np.arange(columns, dtype=np.float32)[None, :] - 0.5) * cell + (np.arange(rows)[:, None] % 2) * (cell / 2)
    y = y + rng.normal(0, jitter * cell / 2, y.shape)
    x = x + rng.normal(0, jitter * cell / 2, x.shape)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    ground = np.full((height, width), 255, np.uint8)
    ground[y[inside].astype(int), x[inside].astype(int)] = 0
    _, labels = cv2.distanceTransformWithLabels(ground, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    walls = np.ones((height, width), np.uint8)
    walls[:, 1:] &= labels[:, 1:] == labels[:, :-1]
    walls[1:, :] &= labels[1:, :] == labels[:-1, :]
    return np.asarray(cv2.distanceTransform(walls, cv2.DIST_L2, 5), np.float32)


def brushed(rng: Random, shape: Shape, spacing: float, length: float, angle: float) -> Field:
    """Noise drawn out in one direction, as skin lines are; standard deviation about 1.

    ``spacing`` across and ``length`` along the lines in pixels, ``angle`` in radians.
    """
    height, width = shape
    side = int(np.hypot(height, width)) + 2
    grid = rng.standard_normal((max(2, int(side / spacing)), max(2, int(side / length))), dtype=np.float32)
    sheet = cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(np.degrees(angle)), 1.0)
    turn[:, 2] += np.array([(width - side) / 2, (height - side) / 2])
    sheet = cv2.warpAffine(sheet, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(sheet / 0.6, np.float32)


def smoothstep(values: Field, low: float, high: float) -> Field:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def dots(shape: Shape, places: NDArray[np.float64], blur: float) -> Field:
    """Filled discs, 0..1; ``places`` is ``[N, 3]``: x, y, radius in pixels."""
    sheet = np.zeros(shape, np.uint8)
    for x, y, radius in places:
        centre = (int(x * 16), int(y * 16))
        cv2.circle(sheet, centre, max(8, int(radius * 16)), 255, -1, cv2.LINE_AA, shift=4)
    return np.asarray(cv2.GaussianBlur(sheet, (0, 0), blur).astype(np.float32) / 255, np.float32)
