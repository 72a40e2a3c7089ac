"""Measured values with their 95 % intervals: Wilson's for proportions, a seeded bootstrap for the rest. numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z_95: Final = 1.959964
ROUNDS: Final = 2000
"""Resamples of a bootstrap: the ends of its interval then move by about a tenth of its width from seed to seed."""


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval; no interval where none makes sense (an extreme, an exact count)."""

    value: float
    low: float | None = None
    high: float | None = None


def wilson(hits: int, total: int) -> Figure:
    """A proportion with Wilson's score interval (Wilson 1927).

    Raises:
        ValueError: there is nothing to take a share of.
    """
    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"{hits} of {total} is no proportion")
    p, z2 = hits / total, Z_95**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 * (p * (1 - p) / total + z2 / (4 * total**2)) ** 0.5 / (1 + z2 / total)
    return Figure(p, max(centre - half, 0.0), min(centre + half, 1.0))


def paired_loss(lost: int, gained: int, total: int) -> Figure:
    """The share that is lost on the whole, ``(lost - gained) / total``, with Newcombe's square-and-add interval.

    Newcombe 1998 (Statistics in Medicine 17:873), of the shares of pictures that only one of two got right. Unlike a
    bootstrap it does not call it certain that nothing is lost where a small sample happens to show no difference.
    """
    down, up = wilson(lost, total), wilson(gained, total)
    value = down.value - up.value
    below = ((down.value - _low(down)) ** 2 + (_high(up) - up.value) ** 2) ** 0.5
    above = ((_high(down) - down.value) ** 2 + (up.value - _low(up)) ** 2) ** 0.5
    return Figure(value, value - below, value + above)


def _low(figure: Figure) -> float:
    return figure.value if figure.low is None else figure.low


def _high(figure: Figure) -> float:
    return figure.value if figure.high is None else figure.high


def bootstrap(values: Floats, statistic: Callable[[Floats], float], rounds: int = ROUNDS, seed: int = 0) -> Figure:
    """A statistic of a sample ``[N]`` with its percentile interval (Efron 1979); the same for the same seed.

    Raises:
        ValueError: the sample is empty.
    """
    if len(values) == 0:
        raise ValueError("a bootstrap needs at least one value")
    rng = np.random.default_rng(seed)
    again = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(rounds)]
    low, high = np.percentile(again, [2.5, 97.5])
    return Figure(float(statistic(values)), float(low), float(high))
