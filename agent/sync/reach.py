"""How many bytes may be on their way to the broker: what lies in the socket is in front of a fresh result (F20).

A quick line is kept full by many, on a slow one they take long. So there are as many as the line carried lately in the
time for which a fresh result may wait behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

AHEAD_S: Final = 0.5
"""For which a fresh result waits behind what is on its way."""
LEAST: Final = 64 * 1024
"""Several results, or one large one: even a slow line must not run dry while the broker's word comes back."""
AT_FIRST: Final = 512 * 1024
"""Of a new connection, of which nothing is known."""
MOST: Final = 2 * 1024 * 1024
"""A whole window (`SyncLimits.window`) of results; more would gain nothing."""
_MEASURED_S: Final = 0.2
_IDLE_S: Final = 0.05
"""With nothing on its way for so long, a line's idleness says nothing of its speed."""


class Reach:
    """Not for several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """A connection begins: nothing is known of the line."""
        self.bytes = AT_FIRST
        """How many may be on their way now."""
        self._way_s = float("inf")
        """There and back at best: what a far line holds without anything waiting in it."""
        self._since: float | None = None
        self._carried = 0
        self._idle_since: float | None = None

    def left(self) -> None:
        """Something is sent."""
        if self._idle_since is not None and self._clock() - self._idle_since > _IDLE_S:
            self._since = None
        self._idle_since = None

    def landed(self, size: int, took_s: float, *, more: bool) -> None:
        """The broker has taken so many bytes, so long after they were sent; ``more`` are on their way."""
        now = self._clock()
        self._way_s = min(self._way_s, took_s)
        if self._since is None:
            self._since, self._carried = now, 0
        else:
            self._carried += size
            if (passed := now - self._since) >= max(_MEASURED_S, self._way_s):
                self.bytes = int(min(MOST, max(LEAST, self._carried / passed * (self._way_s + AHEAD_S))))
                self._since, self._carried = now, 0
        if not more:
            self._idle_since = now
