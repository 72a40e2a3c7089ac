"""A token bucket: so many a second, and no more at once than gather in a short while (F20)."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Not for several threads."""

    def __init__(self, per_s: float, clock: Callable[[], float], burst_s: float = 0.2) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(1.0, per_s * burst_s)
        self._tokens, self._at = self._most, clock()

    def take(self) -> bool:
        """Take a token, if there is one."""
        if self._tokens < 1.0:
            self._fill()
            if self._tokens < 1.0:
                return False
        self._tokens -= 1.0
        return True

    def wait_s(self) -> float:
        """Until there is one."""
        self._fill()
        return max(0.0, (1.0 - self._tokens) / self._per_s)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_s)
        self._at = now
