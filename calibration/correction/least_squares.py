"""Many small non-linear least-squares problems at once, by Levenberg and Marquardt's method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from calibration.colour import Floats

_STEP: Final = 1e-6
_MOST_ITERATIONS: Final = 60
_CLOSE: Final = 1e-5
"""Relative fall of the sum of squares below which a problem is solved."""
_STUCK: Final = 1e9

Residuals = Callable[[Floats], Floats]


def solve(residuals: Residuals, start: Floats) -> Floats:
    """Minimise the sum of squares of each of B problems that differ in nothing but data.

    Args:
        residuals: parameters float64 ``[K, B, P]`` to residuals ``[K, B, R]``: K trials of all problems in one call.
        start: float64 ``[B, P]``.

    Returns:
        float64 ``[B, P]``; where a problem has no better place than its start, its start.
    """
    with np.errstate(all="ignore"):  # a trial that goes too far overflows, and is not taken
        return _solve(residuals, start)


def _solve(residuals: Residuals, start: Floats) -> Floats:
    at: Floats = start.copy()
    problems, parameters = at.shape
    value = residuals(at[None])[0]
    cost = (value**2).sum(axis=-1)
    damping = np.full(problems, 1e-2)
    open_ = np.ones(problems, dtype=np.bool_)
    eye = np.eye(parameters)
    for _ in range(_MOST_ITERATIONS):
        moved = residuals(at[None] + _STEP * eye[:, None, :])
        slope = np.moveaxis((moved - value[None]) / _STEP, 0, -1)  # [B, R, P]
        normal = np.swapaxes(slope, 1, 2) @ slope
        downhill = np.einsum("brp,br->bp", slope, value)
        scale = np.einsum("bpp->bp", normal) + 1e-9
        waiting = open_.copy()
        while waiting.any():
            damped = normal + (damping[:, None] * scale)[:, :, None] * eye
            step = -np.linalg.solve(damped, downhill[..., None])[..., 0]
            trial = np.where(waiting[:, None], at + step, at)
            new = residuals(trial[None])[0]
            fallen = (new**2).sum(axis=-1)
            better = waiting & (fallen < cost)
            open_ &= ~(better & (cost - fallen < _CLOSE * cost))
            at[better], value[better] = trial[better], new[better]
            cost = np.where(better, fallen, cost)
            damping = np.where(better, damping / 5.0, np.where(waiting, damping * 4.0, damping))
            open_ &= damping < _STUCK
            waiting &= ~better & open_
        if not open_.any():
            break
    return at
