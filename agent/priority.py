"""Who waits when there is less processor than work: never a capture from a folder for what somebody asks meanwhile."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

STEPS_BACK: Final = 15
"""Of niceness: against the engine's threads, a thread that stands back gets a thirtieth of a core."""
LAST: Final = 19


def stand_back() -> None:
    """Let this thread alone have the processor after others; does nothing where the system refuses it.

    Linux gives each thread a niceness of its own (``setpriority(2)``, "C library/kernel differences").
    """
    with suppress(OSError):
        back = os.getpriority(os.PRIO_PROCESS, os.getpid()) + STEPS_BACK  # of the first thread: others inherit theirs
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(LAST, back))
