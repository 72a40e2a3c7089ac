"""The rounds: what has to be looked after now and then, on a thread of its own, each thing whatever befalls the others.

Anything here may take its time: nothing waits for a round but its end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

log = logging.getLogger(__name__)

UPKEEP_S: Final = 10.0


class Rounds:
    """Does its jobs at once and then every ``UPKEEP_S`` seconds. Start once; set ``stop`` and join."""

    def __init__(
        self, first: Sequence[Callable[[], object]], jobs: Sequence[Callable[[], object]], stop: threading.Event
    ) -> None:
        """``first`` is done once, at the start, and then ``jobs`` again and again."""
        self._first, self._jobs, self._stop = first, jobs, stop
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, once ``stop`` is set."""
        self._thread.join()

    def _run(self) -> None:
        self._do(self._first)
        self._do(self._jobs)
        while not self._stop.wait(UPKEEP_S):
            self._do(self._jobs)

    def _do(self, jobs: Sequence[Callable[[], object]]) -> None:
        for job in jobs:
            if self._stop.is_set():
                return
            try:
                job()
            except Exception:
                log.exception("upkeep: a job broke off unexpectedly; it is done again at the next round")
