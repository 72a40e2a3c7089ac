"""What is carried to its end, and whose turn it is: captures of a folder go first, the API's get a bounded share.

A folder's capture is the device's promise; a request waits for its answer and can be told to come again. So:

* a folder's capture is always taken before a request;
* while captures come one after the other, one request goes for every ten of them (a tenth more work, no more);
* while they come now and then, one request is in work at a time, and after it the engine is left alone four times as
  long as it took: a capture that comes then finds it busy one time in five, for half a run on average;
* while no folder was heard of for a while, requests share the engine, as many as together take a tenth of a deadline.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.answer.scan import Answer, ScanState
from agent.intake.capture import Arrival, Capture
from agent.intake.reasons import Reason

CAPTURES_PER_REQUEST: Final = 10
"""Captures from folders that go before each request while they come one after the other."""
REST: Final = 4.0
"""How many times its own length a request leaves the engine alone while captures come now and then."""
QUIET_S: Final = 15.0
"""So long after the last capture from a folder, the engine is the requests' own."""
WAITING: Final = 64
"""Requests that may wait for their turn."""


@dataclass(frozen=True)
class Finished:
    """A capture reached its end and it is committed; ``committed`` is on the monotonic clock, in seconds."""

    scan_id: str
    state: ScanState
    path: Path
    dermoscope_id: str
    answer: Answer | None
    reason: Reason | None
    sentence: str | None
    committed: float


@dataclass(frozen=True)
class Ended:
    """What became of a request's capture. ``finished`` is None where the content had ended before."""

    scan_id: str
    finished: Finished | None


class Busy(Exception):
    """No request is taken any more; ask again in ``retry_s`` seconds."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(f"{WAITING} requests wait already")
        self.retry_s = retry_s


class Stopped(Exception):
    """The agent stops: the capture stays as it is, and is taken up at the next start."""


@dataclass(frozen=True, eq=False)
class Carried:
    """An arrival on its way; ``ended`` is kept for who asked, and None where it came from a folder."""

    arrival: Arrival
    ended: Future[Ended] | None = None
    began: float = 0.0
    """When a request's work began, by the clock of `Turns`."""

    @property
    def asked(self) -> bool:
        """Whether somebody asked for it, through the API."""
        return self.ended is not None


@dataclass(frozen=True)
class Load:
    """How many captures are in work, and how many wait for that."""

    in_hand: int
    waiting: int


class Turns:
    """The bounded queues that the analysts take from. Any thread may call it."""

    def __init__(
        self, room: int, at_once: Callable[[], int] = lambda: 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``room``: captures of folders that may wait; ``at_once``: requests in work while the folders are quiet."""
        self._room, self._at_once, self._clock = room, at_once, clock
        self._lock = threading.Lock()
        self._may_begin = threading.Condition(self._lock)
        """Somebody's turn may have come: one who waits in `take` is woken, and wakes the next if there is more."""
        self._has_room = threading.Condition(self._lock)
        self._folder: deque[Carried] = deque()
        self._requests: deque[Carried] = deque()
        self._captures_in_hand = 0
        self._requests_in_hand = 0
        self._captures_since_request = 0
        self._last_capture = float("-inf")
        self._rest_until = float("-inf")
        self._usual_s = 0.5
        self._left_off = False
        self._closed = False

    def put(self, carried: Carried, timeout_s: float) -> bool:
        """Put what came from a folder in the queue; False where there was no room for so long."""
        with self._lock:
            if not self._has_room.wait_for(lambda: len(self._folder) < self._room, timeout_s):
                return False
            self._folder.append(carried)
            self._may_begin.notify()
            return True

    def ask(self, capture: Capture) -> Future[Ended]:
        """Ask for a capture to be carried.

        Raises:
            Busy: too many wait already.
            Stopped: the agent stops.
        """
        with self._lock:
            if self._closed:
                raise Stopped
            if len(self._requests) >= WAITING:
                raise Busy(max(1.0, len(self._requests) * self._usual_s))
            ended: Future[Ended] = Future()
            self._requests.append(Carried(capture, ended))
            self._may_begin.notify()
            return ended

    def again(self, carried: Carried) -> None:
        """A request's capture whose analysis broke off by a fault of ours gets another turn."""
        with self._lock:
            self._requests.append(carried)
            self._may_begin.notify()

    def take(self, timeout_s: float) -> Carried | None:
        """Whose turn it is; None where it is nobody's for so long, or once left off. To be given back to `done`.

        Whoever waits here sleeps until something changes: several that look now and then cost an idle device more.
        """
        end = self._clock() + timeout_s
        with self._lock:
            while not self._left_off and (taken := self._next()) is None:
                now = self._clock()
                if now >= end:
                    return None
                self._may_begin.wait(min([end, *self._changes_by_itself(now)]) - now)
            if self._left_off:
                return None
            self._has_room.notify()
            if self._folder or self._requests:
                self._may_begin.notify()
            return taken

    def done(self, carried: Carried) -> None:
        """An analyst is through with what it took."""
        with self._lock:
            now = self._clock()
            if carried.asked:
                self._requests_in_hand -= 1
                took = now - carried.began
                self._usual_s += 0.2 * (took - self._usual_s)
                self._rest_until = now + REST * took
            else:
                self._captures_in_hand -= 1
                self._last_capture = now
            self._may_begin.notify()

    def load(self) -> Load:
        """How much there is to do."""
        with self._lock:
            in_hand = self._captures_in_hand + self._requests_in_hand
            return Load(in_hand, len(self._folder) + len(self._requests))

    def leave_off(self) -> None:
        """No turn begins any more: whoever waits in `take` goes home."""
        with self._lock:
            self._left_off = True
            self._may_begin.notify_all()

    def close(self) -> None:
        """Whoever waits for a request is told that the agent stops."""
        with self._lock:
            self._closed = True
            left = [*self._requests]
            self._requests.clear()
        for carried in left:
            give_up(carried)

    def _next(self) -> Carried | None:
        now = self._clock()
        if self._requests and self._may_serve(now):
            carried = self._requests.popleft()
            self._requests_in_hand += 1
            self._captures_since_request = 0
            return Carried(carried.arrival, carried.ended, now)
        if self._folder:
            self._captures_in_hand += 1
            self._captures_since_request += 1
            return self._folder.popleft()
        return None

    def _changes_by_itself(self, now: float) -> list[float]:
        """When it may be a waiting request's turn although nothing happens that would wake anybody."""
        return [at for at in (self._rest_until, self._last_capture + QUIET_S) if self._requests and at > now]

    def _may_serve(self, now: float) -> bool:
        """Whether it is a request's turn; see the module's text."""
        if self._folder or self._captures_in_hand:
            return self._requests_in_hand == 0 and self._captures_since_request >= CAPTURES_PER_REQUEST
        if now - self._last_capture < QUIET_S:
            return self._requests_in_hand == 0 and now >= self._rest_until
        return self._requests_in_hand < self._at_once()


def give_up(carried: Carried) -> None:
    """Tell who asked for it that the agent stops."""
    if carried.ended is not None and not carried.ended.done():
        carried.ended.set_exception(Stopped())
