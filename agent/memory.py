"""Keeps the C library from hoarding what pictures held: a clinic device shares its memory with its GPU (F23)."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from typing import Final

# From <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

ARENAS: Final = 1
"""Pools of small memory. One for each thread, as glibc would have it, keep one picture's leavings each."""
OWN_PAGES_BYTES: Final = 128 << 10
"""Larger buffers have pages of their own, which go back to the system with them: in the heap they leave gaps that small
things then settle in, so that it grows for hours among faults (`benchmarks/soak.md`).

Such pages are cleared anew each time, 1 ms for 4 MB; what is needed for every answer is kept where that is easily done
(`agent.answer.buffers`)."""
KEPT_FREE_BYTES: Final = 8 << 20
"""Free memory at the end of the heap that is not given back at once, for what the next capture needs of it."""
TIDY_S: Final = 20.0
"""Between two times that circles are looked for, and what lies free between small things is given back."""


def give_memory_back() -> bool:
    """Tell glibc to return a picture's memory when the picture is gone; call it before any thread is started.

    Left alone, glibc learns from the first large buffer that is freed to keep such memory, once for each of its pools.

    Returns:
        False with another C library, which has its own ways.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    wanted = ((_M_ARENA_MAX, ARENAS), (_M_MMAP_THRESHOLD, OWN_PAGES_BYTES), (_M_TRIM_THRESHOLD, KEPT_FREE_BYTES))
    taken = [mallopt(option, value) == 1 for option, value in wanted]
    return all(taken)


class Tidying:
    """Gives back, now and then, what nobody can reach any more, and the pages that lie free between what is in use.

    What refers to itself in a circle (an error, its traceback, the frames in it, a future of theirs; a connection and
    its callbacks) is let go only where Python looks for it. By itself it does so for long-lived things when there are a
    quarter more of them, which may be never; meanwhile a circle may hold a picture. And a cloud that comes back after
    an hour, a burst, a full disk leave their high-water mark in the heap, below something small that stays.

    What there is at the first look (modules, schemas) is never looked at again: that one takes 50 ms, each later one 2.
    """

    def __init__(self, at_rest: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """``at_rest``: whether no capture is in work, which would wait for this."""
        self._at_rest, self._clock = at_rest, clock
        self._next = clock() + TIDY_S
        self._settled = False

    def look(self) -> bool:
        """Do it where it is time and nobody waits; whether it was done."""
        if self._clock() < self._next or not self._at_rest():
            return False
        self._next = self._clock() + TIDY_S
        gc.collect()
        if not self._settled:
            gc.freeze()
            self._settled = True
        return tidy()


def tidy() -> bool:
    """Give back all whole pages that are free; False where there were none, or with another C library."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0)))
    except (OSError, AttributeError):
        return False
