"""How many events of a backlog may wait for the cloud's word: what is fresh waits behind them at the cloud (F20).

A cloud that is busy works its queue off in the order in which it came. Where the word takes much longer than it takes
at best, there are too many of ours in that queue, and fewer go; where it does not, more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

BEHIND_S: Final = 0.25
"""By how much the cloud's word may come later than at best."""
LEAST: Final = 50
"""So many always may; one full window every second or two for the slowest of clouds."""
_CUT: Final = 0.7
_GROWTH: Final = 4


class Allowance:
    """Not for several threads."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._ceiling, self._clock = most, clock
        self.begin()

    def begin(self) -> None:
        """A connection begins: nothing is known of the way to the cloud."""
        self.events = self._ceiling
        """How many may wait now."""
        self._best = float("inf")
        self._cut_at = self._clock()

    def heard(self, waited_s: Sequence[float]) -> None:
        """The cloud's word came for events that waited so long for it, each."""
        if not waited_s:
            return
        longest, now = max(waited_s), self._clock()
        self._best = min(self._best, *waited_s, longest)
        if longest - self._best <= BEHIND_S:
            self.events = min(self._ceiling, self.events + max(1, len(waited_s) // _GROWTH))
        elif now >= self._cut_at:
            self.events = min(self.events, max(LEAST, int(self.events * _CUT)))
            self._cut_at = now + longest  # until then it is heard of events that were sent before
