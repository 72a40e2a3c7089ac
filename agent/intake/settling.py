"""When a file in the folder is to be read: the rules of F01, pure, with the clock handed in."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import Enum

from agent.intake.capture import FileStamp


@dataclass(frozen=True)
class Patience:
    """How long a file must lie unchanged, in seconds of the monotonic clock, before it is believed."""

    settle_s: float = 2.0
    """Written to, and never closed: some cameras keep the file open."""
    found_after_s: float = 0.25
    """Found by looking, without any event: the shortest time in which two looks mean something."""
    truncated_after_s: float = 10.0
    """Without its end marker: longer than any camera or network share was seen to pause within a file."""


class Step(Enum):
    """What to do with a file now."""

    WAIT = "wait"
    READ = "read"
    TAKE_AS_IT_IS = "take as it is"
    """It never reached its end marker and does not change any more."""


@dataclass
class _Waiting:
    name: str
    due: float
    written: bool = False
    """Written to since it was last closed."""
    closed: bool = False
    """Closed, renamed or linked into place, and not yet looked at."""
    stamp: FileStamp | None = None
    since: float = 0.0
    """When ``stamp`` was first seen."""
    incomplete: bool = False
    """Read with this very stamp, and the end marker was not there."""
    failures: int = 0


class Candidates:
    """The files that wait to be read. Events only move the time of the next look; what is believed is the stamp.

    Files that were just closed come before those that were found by looking, so that today's capture does not
    stand behind a folder full of old ones.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._waiting: dict[str, _Waiting] = {}
        self._closed: dict[str, None] = {}
        self._later: list[tuple[float, int, str]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def closed(self, name: str, now: float) -> None:
        """A close after writing, a rename or a link into the folder: to be looked at next."""
        waiting = self._entry(name, now)
        waiting.written, waiting.closed, waiting.incomplete = False, True, False
        self._closed[name] = None

    def written(self, name: str, now: float) -> None:
        """A write: to be looked at when it is closed, or has not changed for long."""
        waiting = self._entry(name, now)
        waiting.written, waiting.closed = True, False
        self._closed.pop(name, None)
        self._plan(waiting, now + self._patience.settle_s)

    def found(self, name: str, now: float, after_s: float | None = None) -> None:
        """Seen in the folder, or changed in name or rights only; no matter if it waits already."""
        if name not in self._waiting:
            self._plan(self._entry(name, now), now + (self._patience.found_after_s if after_s is None else after_s))

    def forget(self, name: str) -> None:
        """Delivered, known, or no longer there."""
        self._waiting.pop(name, None)
        self._closed.pop(name, None)

    def is_closed(self, name: str) -> bool:
        """Whether it was closed, renamed or linked into place since it was last decided upon."""
        waiting = self._waiting.get(name)
        return waiting is not None and waiting.closed

    def clear(self) -> None:
        """The folder itself went away."""
        self._waiting.clear()
        self._closed.clear()
        self._later.clear()

    def next_due(self) -> float | None:
        """When the next file is to be looked at; ``None`` while none waits."""
        if self._closed:
            return 0.0
        while self._later:
            due, _, name = self._later[0]
            waiting = self._waiting.get(name)
            if waiting is not None and waiting.due == due:
                return due
            heapq.heappop(self._later)
        return None

    def take(self, now: float) -> str | None:
        """The one file to look at now, if any. It keeps its place until it is decided upon."""
        if self._closed:
            name = next(iter(self._closed))
            del self._closed[name]
            return name
        due = self.next_due()
        if due is None or due > now:
            return None
        return heapq.heappop(self._later)[2]

    def decide(self, name: str, stamp: FileStamp, now: float, *, too_large: bool = False) -> Step:
        """What to do with a file that has this stamp now; plans the next look where it is to wait."""
        waiting = self._entry(name, now)
        closed, waiting.closed = waiting.closed, False
        if stamp != waiting.stamp:
            waiting.stamp, waiting.since, waiting.incomplete = stamp, now, False
        if waiting.incomplete:
            quiet, step = self._patience.truncated_after_s, Step.TAKE_AS_IT_IS
        elif waiting.written or too_large:
            quiet, step = self._patience.settle_s, Step.READ
        elif closed:
            return Step.READ
        else:
            quiet, step = self._patience.found_after_s, Step.READ
        if now - waiting.since >= quiet:
            return step
        self._plan(waiting, waiting.since + quiet)
        return Step.WAIT

    def incomplete(self, name: str, stamp: FileStamp, now: float) -> None:
        """It was read with this stamp and lacks its end marker."""
        waiting = self._entry(name, now)
        if stamp != waiting.stamp:
            waiting.stamp, waiting.since = stamp, now
        waiting.incomplete = True
        self._plan(waiting, waiting.since + self._patience.truncated_after_s)

    def changed(self, name: str, now: float) -> None:
        """It changed while it was read."""
        self._plan(self._entry(name, now), now + self._patience.found_after_s)

    def failed(self, name: str, now: float) -> int:
        """It could not be read; tried again after 0.5, 1, 2, 4 ... seconds. Gives how often it failed by now."""
        waiting = self._entry(name, now)
        waiting.failures += 1
        self._plan(waiting, now + min(30.0, 0.25 * 2**waiting.failures))
        return waiting.failures

    def _entry(self, name: str, now: float) -> _Waiting:
        return self._waiting.setdefault(name, _Waiting(name, now))

    def _plan(self, waiting: _Waiting, due: float) -> None:
        waiting.due = due
        self._sequence += 1
        heapq.heappush(self._later, (due, self._sequence, waiting.name))
