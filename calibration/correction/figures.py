"""How far colours are from a chart's: the CIEDE2000 figures that fits and verifications are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from calibration.colour import Floats, delta_e_2000
from calibration.references import ReferenceChart


@dataclass(frozen=True)
class Figures:
    """CIEDE2000 over all patches of a chart."""

    mean: float
    p95: float
    """95th percentile, interpolated between patches."""
    max: float
    grey_chroma: float
    """Colour error along the grey axis: mean distance in a*b* of the grey patches from the reference; 0 without any."""

    def __str__(self) -> str:
        rest = f"largest {self.max:.2f}, greys {self.grey_chroma:.2f}"
        return f"mean {self.mean:.2f}, 95th percentile {self.p95:.2f}, {rest}"


def measure(lab: ArrayLike, reference: ReferenceChart) -> Figures:
    """The figures of measured colours.

    Args:
        lab: ``[N, 3]``, Lab D50, in the reference's order.
        reference: the chart.
    """
    value = np.asarray(lab, dtype=np.float64)
    off = differences(value, reference)
    neutral = list(reference.neutral)
    grey = np.hypot(*(value - reference.lab_d50)[neutral, 1:].T).mean() if neutral else 0.0
    return Figures(float(off.mean()), float(np.percentile(off, 95)), float(off.max()), float(grey))


def differences(lab: ArrayLike, reference: ReferenceChart) -> Floats:
    """CIEDE2000 of each patch: ``[N, 3]`` Lab D50 to ``[N]``.

    Raises:
        ValueError: not as many colours as the chart has patches.
    """
    value = np.asarray(lab, dtype=np.float64)
    if value.shape != reference.lab_d50.shape:
        raise ValueError(
            f"{reference.name} has {len(reference.lab_d50)} patches, measured were {len(value)}: show the whole chart"
        )
    return delta_e_2000(value, reference.lab_d50)
