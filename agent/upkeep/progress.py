"""Ways to tell when a part of the agent last made progress, for the watchdog (F25).

A part that waits for work, or for room on the disk, is not wedged; a part that was asked something simple and does not
answer is. Every source here is called from the watchdog's thread and returns at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

Source: TypeAlias = Callable[[], float]
"""Gives the monotonic time of a part's last progress."""

ECHO_S: Final = 5.0
"""Between two questions to the same part."""


class Pulse:
    """A part says itself how it goes: `beat` at each step, `at_work` around a step that must end, `waiting` around one
    that others end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._beaten = clock()
        self._working: dict[int, float] = {}
        self._waiting = 0

    def beat(self) -> None:
        """A step was made."""
        self._beaten = self._clock()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A step that has to end; several may go on at one time, on several threads, and the oldest one counts."""
        me = object()
        with self._lock:
            self._working[id(me)] = self._clock()
        try:
            yield
        finally:
            with self._lock:
                del self._working[id(me)]
            self.beat()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Others have to do something first (make room, bring work), however long that takes."""
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
            self.beat()

    def beating(self) -> float:
        """For a part with a loop of its own: its last beat, or the present while it waits for others."""
        with self._lock:
            return self._clock() if self._waiting else self._beaten

    def working(self) -> float:
        """For a part that is called: when the oldest step that goes on began, or the present where none does."""
        with self._lock:
            return min(self._working.values(), default=self._clock())


class Echo:
    """Asks a part, now and then, to call back; its last progress is its last answer, or the present while none is due.

    Args:
        ask: hands the part something that it has to call from its own thread; must return at once.
        clock: monotonic seconds.
        every_s: between two questions.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
        every_s: float = ECHO_S,
    ) -> None:
        self._ask, self._clock, self._every_s = ask, clock, every_s
        self._asked = clock()
        self._open = False

    def __call__(self) -> float:
        """When the part last answered."""
        now = self._clock()
        if not self._open and now - self._asked >= self._every_s:
            self._asked, self._open = now, True
            try:
                self._ask(self._answer)
            except BaseException:
                self._open = False
                raise
        return self._asked if self._open else now

    def _answer(self) -> None:
        self._open = False


class Changes:
    """Progress is whatever makes a number change: attempts that are counted, for example."""

    def __init__(self, number: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._number, self._clock = number, clock
        self._seen, self._at = number(), clock()

    def __call__(self) -> float:
        """When the number was last seen to be another."""
        number = self._number()
        if number != self._seen:
            self._seen, self._at = number, self._clock()
        return self._at


def any_of(*sources: Source) -> Source:
    """A part that makes progress in one way or the other."""
    return lambda: max([source() for source in sources])


def each_of(sources: Callable[[], Iterator[float]], clock: Callable[[], float] = time.monotonic) -> Source:
    """A part of several, of which none may stand still (a watch for each folder); the present where there are none."""
    return lambda: min(sources(), default=clock())
