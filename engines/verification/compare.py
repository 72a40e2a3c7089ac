"""An engine's answers beside the reference's for the same pictures: how far apart, and whether a decision changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.backend import Output
from engines.classes import CLASSES, MELANOMA
from engines.verification.intervals import Figure, Floats, bootstrap, wilson

_MELANOMA: Final = CLASSES.index(MELANOMA)
BAND: Final = 0.005
"""A picture whose reference risk is nearer to the threshold than this may fall on either side of it: float16 rounding
moves a probability by about as much, and no threshold is known that well."""


@dataclass(frozen=True)
class Comparison:
    """What lies between engine and reference; probabilities and risks in 0..1."""

    images: int
    agreeing: int
    """Pictures whose most probable class is the same."""
    top1_agreement: Figure
    difference_max: float
    """Largest absolute difference of any probability of any picture."""
    difference_mean: float
    """Mean absolute difference over all pictures and classes."""
    risk_difference_max: float
    """Largest absolute difference of the melanoma risk."""
    threshold: float
    flips: int
    """Pictures that one calls suspicious and the other does not."""
    flips_outside_band: int
    """Those of them whose reference risk is at least :data:`BAND` from the threshold."""
    attention_correlation_mean: Figure
    attention_correlation_lowest: float
    farthest: int
    """Index of the picture with the largest difference."""


def joined(outputs: Sequence[Output]) -> Output:
    """The answers of several runs as those of one."""
    return Output(np.concatenate([o.probabilities for o in outputs]), np.concatenate([o.attention for o in outputs]))


def risks(output: Output) -> Floats:
    """Melanoma risks ``[N]`` float64."""
    values: Floats = output.probabilities[:, _MELANOMA].astype(np.float64)
    return values


def attention_correlations(reference: NDArray[np.float32], engine: NDArray[np.float32]) -> Floats:
    """Pearson's correlation of each picture's two maps ``[N, G, G]``: ``[N]`` float64 in -1..1.

    A map without any contrast correlates with nothing (0), unless both are without: then they show the same (1).
    """
    a = reference.astype(np.float64).reshape(len(reference), -1)
    b = engine.astype(np.float64).reshape(len(engine), -1)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    norm_a, norm_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    flat_a, flat_b = norm_a < _FLAT, norm_b < _FLAT
    product = np.where(flat_a | flat_b, 1.0, norm_a * norm_b)
    correlations: Floats = np.where(flat_a | flat_b, flat_a & flat_b, (a * b).sum(axis=1) / product)
    return correlations


_FLAT: Final = 1e-9
"""Contrast below which a map, whose values sum to at most 1, is rounding."""


def compare(reference: Output, engine: Output, threshold: float) -> Comparison:
    """Compare answers to the same pictures, in the same order.

    Args:
        reference: what the FP32 reference gave, ``[N, 7]`` and ``[N, G, G]``.
        engine: what the engine gave; both have passed ``engines.golden.check_output``.
        threshold: the operating point's melanoma risk; a risk of at least this is suspicious.

    Raises:
        ValueError: no pictures, or not as many of one as of the other.
    """
    images = len(reference.probabilities)
    if images == 0 or len(engine.probabilities) != images:
        raise ValueError(f"{images} answers of the reference and {len(engine.probabilities)} of the engine")
    difference = np.abs(reference.probabilities.astype(np.float64) - engine.probabilities.astype(np.float64))
    agreeing = int((reference.probabilities.argmax(axis=1) == engine.probabilities.argmax(axis=1)).sum())
    flipped = (risks(reference) >= threshold) != (risks(engine) >= threshold)
    correlations = attention_correlations(reference.attention, engine.attention)
    return Comparison(
        images=images,
        agreeing=agreeing,
        top1_agreement=wilson(agreeing, images),
        difference_max=float(difference.max()),
        difference_mean=float(difference.mean()),
        risk_difference_max=float(difference[:, _MELANOMA].max()),
        threshold=threshold,
        flips=int(flipped.sum()),
        flips_outside_band=int((flipped & (np.abs(risks(reference) - threshold) >= BAND)).sum()),
        attention_correlation_mean=bootstrap(correlations, lambda values: float(values.mean())),
        attention_correlation_lowest=float(correlations.min()),
        farthest=int(difference.max(axis=1).argmax()),
    )
