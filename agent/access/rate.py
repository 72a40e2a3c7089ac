"""How often anyone may try: a token bucket for each key, of bounded number, on the monotonic clock (F16)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

MOST_KEYS: Final = 4096
LONGEST_KEY: Final = 64
_ALL_OTHERS: Final = "\0"


class RateLimit:
    """Lets each key through ``burst`` times at once and ``rate_per_s`` times a second in the long run.

    For a key one number is kept: when it will have all of its burst again (GCRA, ITU-T I.371). Keys that have are
    forgotten. Where more are busy than are kept, those that come new share one bucket, so that nobody gains by
    coming under many names.
    """

    def __init__(
        self,
        rate_per_s: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        most_keys: int = MOST_KEYS,
    ) -> None:
        """``clock`` gives monotonic seconds. Raises ValueError for what lets nobody through."""
        if not rate_per_s > 0 or burst < 1 or most_keys < 1:
            raise ValueError(f"rate_per_s {rate_per_s}, burst {burst} and most_keys {most_keys} must be above 0")
        self._interval_s = 1.0 / rate_per_s
        self._tolerance_s = (burst - 1) * self._interval_s
        self._clock, self._most_keys = clock, most_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, key: str) -> float:
        """0.0: go (and it is counted); otherwise the seconds to wait (and nothing is)."""
        return self._ask(key, 0.0)

    def turn(self, key: str, longest_s: float) -> float:
        """The seconds until it is the key's turn, one after the other; counted, but where it would wait longer."""
        return min(self._ask(key, longest_s), longest_s)

    def _ask(self, key: str, longest_s: float) -> float:
        if len(key) > LONGEST_KEY:
            key = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        with self._lock:
            now = self._clock()
            key = self._admit(key, now)
            full_at = max(self._full_at.get(key, now), now)
            wait_s = max(0.0, full_at - self._tolerance_s - now)
            if wait_s <= longest_s:
                self._full_at[key] = full_at + self._interval_s
                self._full_at.move_to_end(key)
            return wait_s

    def __len__(self) -> int:
        """How many keys are kept; bounded."""
        return len(self._full_at)

    def _admit(self, key: str, now: float) -> str:
        """Forget a few that are rested, the longest unused first; the key, or the shared one where there is no room."""
        for _ in range(2):
            oldest = next(iter(self._full_at), None)
            if oldest is None or self._full_at[oldest] > now:
                break
            del self._full_at[oldest]
        if key in self._full_at or len(self._full_at) < self._most_keys:
            return key
        return _ALL_OTHERS
