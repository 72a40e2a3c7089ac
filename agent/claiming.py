"""A capture's claim on its way to the disk, while its picture is being decoded.

A claim is durable after a millisecond or two, or after seconds on a worn card. A picture may be decoded meanwhile,
since that leaves nothing behind; the engine does not begin, and nothing is rejected, before the claim is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from agent.intake.reasons import Reason, refuse
from agent.records.store import Claim, ClaimOutcome

MAX_CLAIMS: Final = 100
"""Times one capture may be begun in all before it is refused: the end of whatever none of us thought of.

Many, since a device whose power fails again and again begins the same captures each time, and they are not to blame."""


class AlreadyEnded(Exception):
    """The content was answered or rejected before: there is nothing to do."""


class Claiming:
    """One capture's claim; for the one thread that carries the capture."""

    def __init__(self, scan_id: str, claim: Callable[[], Future[Claim]]) -> None:
        """Begin to ``claim``; it is begun again where it was refused and is asked for again."""
        self.scan_id = scan_id
        self._begin = claim
        self._begun: Future[Claim] | None = claim()
        self._claim: Claim | None = None

    def durable(self) -> Claim:
        """Wait for the claim.

        Raises:
            AlreadyEnded: the content has ended before.
            StoreError: it could not be written (StoreFull, StoreFaulty: not now).
        """
        if self._claim is None:
            begun, self._begun = self._begun or self._begin(), None
            try:
                self._claim = begun.result()
            finally:
                del begun  # it holds the error, and that this frame, and the picture behind it (`agent.answer.aside`)
        if self._claim.outcome is ClaimOutcome.KNOWN:
            raise AlreadyEnded
        return self._claim

    def settle(self) -> None:
        """Wait for the claim; raises as `durable` does, and Rejection where the capture was begun too often."""
        if self.durable().attempts > MAX_CLAIMS:
            raise refuse(Reason.CRASHED_ANALYSIS, times=MAX_CLAIMS)

    @contextmanager
    def before(self, waiting: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """The context of ``waiting``, entered once the claim is there; raises as `settle` does."""
        self.settle()
        with waiting():
            yield
