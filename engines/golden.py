"""What an output must be before it may leave: numbers that can be right, and the golden image's own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.backend import BackendFailed, Images, Output
from engines.bundle import Bundle, golden_input
from engines.classes import CLASSES

GRID: Final = 14
"""Patches along one side of the attention map."""
SUM_TOLERANCE: Final = 1e-3
"""A row of softmax outputs sums to 1 within float32 (and FP16) rounding; anything further off is a fault."""


def check_output(output: Output, images: int) -> None:
    """Refuse numbers that no healthy model gives (F12).

    Args:
        output: as the backend returned it.
        images: how many pictures were given.

    Raises:
        BackendFailed: wrong shape or dtype, not finite, out of range, or probabilities that do not sum to 1.
    """
    probabilities, attention = output.probabilities, output.attention
    for name, array, shape in (
        ("probabilities", probabilities, (images, len(CLASSES))),
        ("attention", attention, (images, GRID, GRID)),
    ):
        if array.shape != shape or array.dtype != np.float32:
            raise BackendFailed(
                f"the {name} came as {array.dtype} {list(array.shape)} where float32 {list(shape)} was due"
            )
        if not bool(np.isfinite(array).all()):
            raise BackendFailed(f"the {name} hold values that are not numbers")
    if bool((probabilities < 0).any()) or bool((probabilities > 1 + SUM_TOLERANCE).any()):
        raise BackendFailed("a probability lies outside 0..1")
    if bool((np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1.0) > SUM_TOLERANCE).any()):
        raise BackendFailed("the probabilities of a picture do not sum to 1")
    if bool((attention < 0).any()):
        raise BackendFailed("the attention holds negative values")


@dataclass(frozen=True)
class GoldenCheck:
    """The self-test: an input, and what a healthy engine answers to it."""

    images: Images
    probabilities: tuple[float, ...]
    tolerance: float
    """Largest allowed absolute difference of any probability."""

    def check(self, output: Output) -> None:
        """Compare an engine's answer with the expected one; :class:`BackendFailed` says how far off it is."""
        check_output(output, len(self.images))
        off = float(np.abs(output.probabilities - np.array(self.probabilities, dtype=np.float32)).max())
        if off > self.tolerance:
            raise BackendFailed(
                f"the golden image's probabilities are off by {off:.4f}, and {self.tolerance:g} is allowed: this engine"
                " computes wrong numbers"
            )


def golden_check(bundle: Bundle) -> GoldenCheck:
    """The self-test that the bundle ships.

    Raises:
        BundleError: the golden image cannot be decoded.
    """
    golden = bundle.manifest.golden
    return GoldenCheck(golden_input(bundle), golden.probabilities, golden.tolerance)
