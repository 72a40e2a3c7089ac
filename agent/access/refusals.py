"""Refused sign-ins in the audit: each is counted, and ten thousand of them are a few rows (F06, F28)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from agent.access.tokens import Refusal

PAUSE_S: Final = (60.0, 3600.0)
"""Between two rows, doubling from the first to the second while it goes on: an attack of a year is 9,000 rows."""
MOST_NAMED: Final = 5
"""Addresses and tokens that a row names."""
LONGEST_NAME: Final = 64


class RefusedSignIns:
    """Tells of the first refusal at once, and of those that follow together. Any thread may call it."""

    def __init__(self, tell: Callable[[dict[str, Any]], object], clock: Callable[[], float] = time.monotonic) -> None:
        """``tell`` is given the audit row's detail, and must be quick; ``clock`` gives monotonic seconds."""
        self._tell, self._clock = tell, clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._addresses: dict[str, None] = {}
        self._tokens: dict[str, None] = {}
        self._pause_s = PAUSE_S[0]
        self._not_before = float("-inf")

    def refused(self, refusal: Refusal, address: str, token_id: str | None = None) -> None:
        """Count a refusal.

        Args:
            refusal: why.
            address: where it came from.
            token_id: whose token it was, where it was one of ours.
        """
        with self._lock:
            self._counts[refusal.value] += 1
            for named, one in ((self._addresses, address), (self._tokens, token_id)):
                if one is not None and len(named) < MOST_NAMED:
                    named[one[:LONGEST_NAME]] = None
        self.flush()

    def flush(self, *, at_the_end: bool = False) -> None:
        """Tell of what was counted, where it is time to: call it now and then, and once at the end."""
        with self._lock:
            now = self._clock()
            if not self._counts or (now < self._not_before and not at_the_end):
                return
            rested = now - self._not_before > PAUSE_S[1]
            self._pause_s = PAUSE_S[0] if rested else min(2 * self._pause_s, PAUSE_S[1])
            self._not_before = now + self._pause_s
            detail = {
                "count": sum(self._counts.values()),
                "reasons": dict(self._counts),
                "addresses": [*self._addresses],
                "token_ids": [*self._tokens],
            }
            self._counts.clear()
            self._addresses.clear()
            self._tokens.clear()
        self._tell(detail)
