"""How sharp a chart lies in a picture: the width of its patches' edges."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.chart.blobs import FloatArray, Picture
from calibration.chart.lattice import Lattice

STEPS: Final = 81
"""Samples along the way from one patch's centre to the next."""
CONTRAST: Final = 20.0
"""Least step between a patch and the frame, 8-bit levels, that an edge is measured at."""


def edge_width(small: Picture, lattice: Lattice, cells: FloatArray, shape: tuple[int, int]) -> float:
    """Median distance, in pitches, over which patches pass into the frame between them (10 to 90 % of the step).

    Sharp pictures give under 0.1. Zero where no step can be measured (a chart without a frame between its patches).

    Args:
        small: uint8 [H,W,3].
        lattice: the grid.
        cells: float64 [N,2]: grid coordinates of the chart's patches that are in view or not.
        shape: rows and columns of the chart.
    """
    grid = cells.reshape(*shape, 2)
    starts = np.concatenate([grid[:, :-1].reshape(-1, 2), grid[:-1].reshape(-1, 2)])
    ends = np.concatenate([grid[:, 1:].reshape(-1, 2), grid[1:].reshape(-1, 2)])
    way = np.linspace(0.0, 1.0, STEPS)[:, None]
    points = lattice.project(starts[:, None] + way * (ends - starts)[:, None])
    height, width = small.shape[:2]
    inside = ((points >= 0) & (points <= [width - 1, height - 1])).all(axis=(1, 2))
    if not inside.any():
        return 0.0
    spot = np.rint(points[inside]).astype(np.int64)
    profiles = small[spot[..., 1], spot[..., 0]].max(axis=-1).astype(np.float64)
    widths = [
        _fall(half) for profile in profiles for half in (profile[: STEPS // 2 + 1], profile[: STEPS // 2 - 1 : -1])
    ]
    known = [width for width in widths if width is not None]
    return float(np.median(known)) if len(known) >= 4 else 0.0


def _fall(profile: NDArray[np.float64]) -> float | None:
    """Width of the step down from a patch (first value) to the darkest value, in pitches; None without a step."""
    top, bottom = float(np.median(profile[:8])), float(profile.min())
    if top - bottom < CONTRAST:
        return None
    share = (profile[: int(profile.argmin()) + 1] - bottom) / (top - bottom)
    above = np.flatnonzero(share > 0.9)
    below = np.flatnonzero(share < 0.1)
    return float(below[0] - above[-1]) / (STEPS - 1) if len(above) and len(below) else None
