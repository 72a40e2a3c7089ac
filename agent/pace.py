"""How many captures are in work at once: enough to keep the engine busy, few enough that each is answered in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

LEAST: Final = 2
"""One waits for the engine while another is decoded or written."""
SHARE: Final = 0.5
"""Of the deadline, that captures may spend waiting for those before them."""


class Pace:
    """Lets captures in, up to a limit that follows the engine's speed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._inside = 0

    def limit(self, run_s: float | None, deadline_s: float) -> int:
        """How many may be in work.

        Args:
            run_s: the engine's usual time for one picture in seconds; None where it is not known.
            deadline_s: for each answer.
        """
        if not run_s:
            return LEAST
        return max(LEAST, min(self._most, int(SHARE * deadline_s / run_s)))

    @contextmanager
    def inside(self, limit: Callable[[], int], stopped: Callable[[], None]) -> Iterator[None]:
        """Be one of those in work; waits for room.

        Args:
            limit: how many may be, asked again and again.
            stopped: raises where there is no sense in waiting any longer.
        """
        with self._changed:
            while not self._changed.wait_for(lambda: self._inside < limit(), 0.2):
                stopped()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()
