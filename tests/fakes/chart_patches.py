"""A chart's patches as a described camera records them, without a picture: for the fit and its gates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.colour import lab_to_linear
from calibration.references import COLORCHECKER24, ReferenceChart

SCOPE = np.array([[0.72, 0.21, 0.05], [0.12, 0.70, 0.16], [0.03, 0.17, 0.66]])
"""Linear sRGB of the scene to a camera's linear RGB: crosstalk, and a bluish lamp."""


@dataclass(frozen=True, eq=False)
class FakePatches:
    """What the gates look at; all is well unless it is said."""

    names: tuple[str, ...]
    linear: NDArray[np.float64]
    variation: NDArray[np.float64]
    clipped: NDArray[np.bool_]
    crushed: NDArray[np.bool_]


def record(
    camera: ArrayLike = SCOPE,
    *,
    exposure: float = 0.9,
    noise: float = 0.0,
    light: ArrayLike = (1.0, 1.0, 1.0),
    reference: ReferenceChart = COLORCHECKER24,
    seed: int = 1,
) -> NDArray[np.float64]:
    """Linear light [N, 3] of each patch; ``noise`` is relative, ``light`` the lamp's colour."""
    scene = np.maximum(lab_to_linear(reference.lab_d50), 0.0) * np.asarray(light)
    linear = exposure * scene @ np.asarray(camera).T
    return np.clip(linear * (1.0 + noise * np.random.default_rng(seed).standard_normal(linear.shape)), 0.0, 1.0)


def patches(linear: NDArray[np.float64], reference: ReferenceChart = COLORCHECKER24) -> FakePatches:
    """Flawless patches of these colours."""
    count = len(linear)
    none = np.zeros(count, np.bool_)
    return FakePatches(reference.patch_names, linear, np.full(count, 0.01), none, none.copy())
