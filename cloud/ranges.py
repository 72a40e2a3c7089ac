"""Which numbers of a stream were heard, as ranges: what lies between two ranges is a gap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]
"""First and last number, both heard, and all between them."""


def add(heard: Sequence[Range], numbers: Iterable[int]) -> tuple[list[Range], int]:
    """Add ``numbers`` to the ranges.

    Args:
        heard: ranges that neither overlap nor touch, in any order.
        numbers: in any order: what is urgent overtakes what is old.

    Returns:
        The new ranges in order, and how many of ``numbers`` had been heard before.
    """
    merged: list[Range] = []
    again = 0
    for first, last in sorted([*heard, *((number, number) for number in numbers)]):
        if merged and first <= merged[-1][1] + 1:
            # Ranges never overlap, so an overlap is always with a single number.
            again += first <= merged[-1][1]
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged, again


def gaps(heard: Sequence[Range]) -> list[Range]:
    """What is missing between 1, where every stream begins, and the highest number; ``heard`` is in order."""
    missing: list[Range] = []
    expected = 1
    for first, last in heard:
        if first > expected:
            missing.append((expected, first - 1))
        expected = last + 1
    return missing
