"""Large buffers that are used again: those that come and go leave gaps in the heap, which grows by them (F23)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from agent.answer.shrink import RGB


class Buffers:
    """A few buffers for whoever needs one for a moment; from any thread."""

    def __init__(self, count: int = 1) -> None:
        """``count``: there are never more; who finds none free waits."""
        self._room = threading.Semaphore(count)
        self._free: deque[NDArray[np.uint8]] = deque()

    @contextmanager
    def lend(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """``[size]`` uint8 with anything in it; nobody else's until the body ends, and not the body's after that."""
        with self._room:
            try:
                buffer = self._free.pop()
            except IndexError:
                buffer = np.empty(0, np.uint8)
            if buffer.size < size:
                buffer = np.empty(size, np.uint8)
            try:
                yield buffer[:size]
            finally:
                self._free.append(buffer)

    @contextmanager
    def picture(self, height: int, width: int) -> Iterator[RGB]:
        """``[height, width, 3]`` uint8, likewise."""
        with self.lend(height * width * 3) as flat:
            yield flat.reshape(height, width, 3)
