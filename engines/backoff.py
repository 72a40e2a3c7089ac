"""How long to leave a thing alone that failed: exponential, with full jitter, forgotten after a stable while."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Backoff:
    """Delays that grow with failures in a row.

    The n-th delay is drawn evenly from ``0 .. min(cap_s, base_s * 2**(n - 1))`` ("full jitter"), so that devices that
    failed together do not come back together. Only ``stable_s`` of good work forgets the failures: a thing that fails a
    second after every start would otherwise be restarted for ever at the smallest delay.
    """

    def __init__(
        self,
        base_s: float = 0.1,
        cap_s: float = 30.0,
        stable_s: float = 60.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base_s, self._cap_s, self._stable_s = base_s, cap_s, stable_s
        self._clock, self._uniform = clock, uniform
        self._good_since: float | None = None
        self.failures = 0
        """Failures in a row."""
        self.until = clock()
        """When to try again, on ``clock``."""

    def failed(self) -> float:
        """Count a failure; returns the delay in seconds, which ends at ``until``."""
        now = self._clock()
        if self._good_since is not None and now - self._good_since >= self._stable_s:
            self.failures = 0
        self._good_since = None
        self.failures += 1
        delay = self._uniform(0.0, min(self._cap_s, self._base_s * 2.0 ** min(self.failures - 1, 62)))
        self.until = now + delay
        return delay

    def worked(self) -> None:
        """Note that it works; the first time after a failure starts the stable while."""
        if self._good_since is None:
            self._good_since = self._clock()

    @property
    def over(self) -> bool:
        """Whether it may be tried."""
        return self._clock() >= self.until
