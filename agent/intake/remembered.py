"""What is remembered of a folder's files, which lie there for years: 24 bytes of each, however long its name."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LOOSE: Final = 512
"""So many are kept in a dictionary, about 200 bytes each, before they are packed; more of a folder with more files."""
_LOOSE_SHARE: Final = 8
_MASK: Final = (1 << 64) - 1


class Remembered:
    """By name: a stamp, and a mark of the content where it was read. Not for several threads.

    A name is text or bytes, always the same of the two. Names, stamps and marks are kept as Python's own keyed 64-bit
    hashes: that one file is taken for another takes two names and two stamps of equal hashes, about 2^-128 a pair.
    """

    def __init__(self) -> None:
        self._loose: dict[int, tuple[int, int]] = {}
        self._names, self._stamps, self._marks = (array("Q") for _ in range(3))
        """Sorted by name; as arrays, since `bisect` is three times as fast on them as numpy is for one key."""

    def __contains__(self, name: str | bytes) -> bool:
        """Whether anything is remembered of a file."""
        return self._find(name) is not None

    def __len__(self) -> int:
        """Of how many files."""
        packed = sum(1 for key in self._loose if self._place(key) is None)
        return len(self._names) + packed

    def put(self, name: str | bytes, stamp: bytes, mark: bytes = b"") -> None:
        """Remember this of a file, and nothing else."""
        self._loose[_hash(name)] = (_hash(stamp), _hash(mark))
        if len(self._loose) >= max(_LOOSE, len(self._names) // _LOOSE_SHARE):
            self._pack()

    def has(self, name: str | bytes, stamp: bytes, mark: bytes | None = None) -> bool:
        """Whether it is remembered with this stamp, and with this mark where one is given."""
        found = self._find(name)
        return found is not None and found[0] == _hash(stamp) and (mark is None or found[1] == _hash(mark))

    def keep_only(self, names: Collection[str | bytes]) -> None:
        """Forget all others."""
        kept = {_hash(name) for name in names}
        for gone in self._loose.keys() - kept:
            del self._loose[gone]
        if len(self._names):
            chosen = np.isin(_view(self._names), _column(kept, len(kept)))
            self._set(*(_view(column)[chosen] for column in (self._names, self._stamps, self._marks)))

    def _find(self, name: str | bytes) -> tuple[int, int] | None:
        key = _hash(name)
        if (loose := self._loose.get(key)) is not None:
            return loose
        if (place := self._place(key)) is None:
            return None
        return self._stamps[place], self._marks[place]

    def _place(self, key: int) -> int | None:
        place = bisect_left(self._names, key)
        return place if place < len(self._names) and self._names[place] == key else None

    def _pack(self) -> None:
        count = len(self._loose)
        names = _column(self._loose.keys(), count)
        stamps = _column((stamp for stamp, _ in self._loose.values()), count)
        marks = _column((mark for _, mark in self._loose.values()), count)
        self._loose.clear()
        others = ~np.isin(_view(self._names), names)
        names = np.concatenate((_view(self._names)[others], names))
        stamps = np.concatenate((_view(self._stamps)[others], stamps))
        marks = np.concatenate((_view(self._marks)[others], marks))
        order = np.argsort(names)
        self._set(names[order], stamps[order], marks[order])

    def _set(self, *columns: NDArray[np.uint64]) -> None:
        self._names, self._stamps, self._marks = (array("Q", column.tobytes()) for column in columns)


def _view(column: array[int]) -> NDArray[np.uint64]:
    return np.frombuffer(column, np.uint64)


def _column(values: Iterable[int], count: int) -> NDArray[np.uint64]:
    return np.fromiter(values, np.uint64, count)


def _hash(value: str | bytes) -> int:
    return hash(value) & _MASK
