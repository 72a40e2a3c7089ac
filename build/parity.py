"""How far two runs of one network are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Parity:
    """Largest and mean difference of the probabilities, and the lowest correlation of the attention maps."""

    largest: float
    mean: float
    attention: float


def parity_of(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> Parity:
    """Compare outputs: lists of probabilities ``[N, 7]`` and attention ``[N, 14, 14]``, float32."""
    off = np.abs(found[0] - expected[0])
    maps = [_correlation(a, b) for a, b in zip(found[1], expected[1], strict=True)]
    return Parity(float(off.max()), float(off.mean()), min(maps))


def _correlation(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Pearson's correlation of two maps; of maps without any relief, 1 where both are such and else 0."""
    a, b = found.astype(np.float64) - found.mean(), expected.astype(np.float64) - expected.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else float(a.any() == b.any())
