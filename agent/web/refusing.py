"""Refusals that come in floods are given slowly: what cannot be done shall not take the processor from what can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from agent.access.rate import RateLimit

SHARE: Final = 0.05
"""Of the requests that a token may make, so many may be refused to an address; what goes beyond waits for its turn."""
LEAST_PER_S: Final = 1.0
LEAST_AT_ONCE: Final = 20
"""A person who mistypes does not wait for it, however seldom tokens may ask."""
LONGEST_S: Final = 2.0
"""No refusal waits longer, and no stop for it."""
WAITING: Final = 384
"""At once; whoever comes and goes without listening to the answer costs memory, not only time."""


class SlowRefusals:
    """On the web's loop. Nothing is held while a refusal waits but its connection, from which no more is read."""

    def __init__(
        self,
        requests_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """``requests_per_s``: as it is set for a token; so many are refused at once before anyone waits."""
        rate = max(LEAST_PER_S, SHARE * requests_per_s)
        self._turns = RateLimit(rate, max(LEAST_AT_ONCE, round(requests_per_s)), clock)
        self._pause = pause
        self._waiting = 0

    async def wait(self, status: int, address: str) -> None:
        """Until an answer with this status may go to this address; at once for what is no refusal of a request."""
        if status < 400 or status == 500 or self._waiting >= WAITING:
            return
        if wait_s := self._turns.turn(address, LONGEST_S):
            self._waiting += 1
            try:
                await self._pause(wait_s)
            finally:
                self._waiting -= 1
