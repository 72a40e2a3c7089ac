"""Whether today is today: nothing is given up for its age because a clock was set wrong (F16).

The day of the last look is kept. A clock that went back, or has leapt ahead by more than a week since then, is believed
only after it has gone on evenly for a day: a device that was switched off for a month waits that day, and one whose
clock was set to 2099 is seen by somebody before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

LEAP: Final = timedelta(days=7)
PROOF_S: Final = 24 * 3600.0


class Calendar:
    """Decides whether ages may be reckoned by the wall clock."""

    def __init__(self, last: datetime | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``last``: when that was last done; None: never."""
        self._last = last
        self._monotonic = monotonic
        self._doubted: tuple[datetime, float] | None = None

    def doubt(self, now: datetime, *, trusted: bool) -> str | None:
        """Why the clock is not believed, in one sentence; None where it is."""
        if not trusted:
            return "the clock cannot be right"
        if self._last is None or timedelta(0) <= now - self._last <= LEAP:
            self._last, self._doubted = now, None
            return None
        monotonic = self._monotonic()
        if self._doubted is None or abs((now - self._doubted[0]).total_seconds() - monotonic + self._doubted[1]) > 60:
            self._doubted = (now, monotonic)
        if monotonic - self._doubted[1] >= PROOF_S:
            self._last, self._doubted = now, None
            return None
        leap = "went back" if now < self._last else "has leapt ahead"
        return f"the clock {leap} since {self._last:%Y-%m-%d}: it is believed after it has gone on evenly for a day"
