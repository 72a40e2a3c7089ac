"""Keeps the C library from hoarding what pictures held: a clinic device shares its memory with its GPU (F23)."""

from __future__ import annotations

import ctypes
import logging
from typing import Final

log = logging.getLogger(__name__)

# From <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

ARENAS: Final = 1
"""Pools of small memory. One for each thread, as glibc would have it, keep one picture's leavings each."""
GIVE_BACK_BYTES: Final = 4 << 20
"""Larger buffers (those of a 12-megapixel picture) have pages of their own, which go back to the system with them.

Not smaller: with 1 MiB each 1024 x 768 capture costs 4 ms more, in pages that the system has to clear anew."""


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
    wanted = ((_M_ARENA_MAX, ARENAS), (_M_MMAP_THRESHOLD, GIVE_BACK_BYTES), (_M_TRIM_THRESHOLD, GIVE_BACK_BYTES))
    taken = [mallopt(option, value) == 1 for option, value in wanted]
    return all(taken)
