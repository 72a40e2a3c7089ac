"""Sidecars that were written, changed or found, possibly after their capture was answered."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.intake.capture import FileStamp
from agent.intake.remembered import Remembered

log = logging.getLogger(__name__)

FIRST_S: Final = 1.0
LONGEST_S: Final = 600.0
"""Between two questions about one that is not settled; each time twice as long."""
AT_ONCE: Final = 50
"""Questions one after the other, at most: captures come first."""


class LateSidecars:
    """Tells of each sidecar once for each change, and again until it is settled.

    Settled is one whose captures have come to their end and know what it says. A capture can end without it although it
    lies there: it came a moment too late, the folder was away, the disk was full, or no agent ran.
    """

    def __init__(self, tell: Callable[[Path], bool] | None, clock: Callable[[], float] = time.monotonic) -> None:
        """``tell`` is given a sidecar's path, and says whether it is settled."""
        self._tell, self._clock = tell, clock
        self._seen = Remembered()
        self._open: dict[str, float] = {}
        """How long to wait after the next question."""
        self._due: list[tuple[float, str]] = []

    def note(self, path: Path, *, tell: bool = True) -> None:
        """A sidecar was closed, or found; ``tell`` is False for the first look at a folder: a little later will do."""
        try:
            stamp = FileStamp.of(path.lstat()).packed()
        except OSError:
            return
        if self._seen.has(path.name, stamp):
            return
        self._seen.put(path.name, stamp)
        if self._tell is not None and not (tell and self._settled(path)):
            self._ask_in(path.name, FIRST_S)

    def ask_again(self, folder: Path) -> None:
        """Ask about those for which it is time."""
        now = self._clock()
        for _ in range(AT_ONCE):
            if not self._due or self._due[0][0] > now:
                return
            _, name = heapq.heappop(self._due)
            if (wait_s := self._open.pop(name, None)) is not None and not self._settled(folder / name):
                self._ask_in(name, wait_s)

    def next_due(self) -> float | None:
        """When the next question is due, by the clock."""
        return self._due[0][0] if self._due else None

    def keep_only(self, names: set[str]) -> None:
        """Forget those that are no longer in the folder."""
        self._seen.keep_only(names)
        for gone in self._open.keys() - names:
            del self._open[gone]

    def _settled(self, path: Path) -> bool:
        try:
            return self._tell is None or self._tell(path)
        except Exception:
            log.exception("a sidecar in %s could not be taken; it is tried again", path.parent)
            return False

    def _ask_in(self, name: str, wait_s: float) -> None:
        if name not in self._open:
            heapq.heappush(self._due, (self._clock() + wait_s, name))
        self._open[name] = min(LONGEST_S, 2.0 * wait_s)
