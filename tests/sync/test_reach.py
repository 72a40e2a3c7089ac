"""How many bytes may be on their way (F20), on lines that are simulated: so many bytes a second, so far."""

from __future__ import annotations

from collections import deque

import pytest

from agent.sync.reach import AHEAD_S, AT_FIRST, LEAST, MOST, Reach

EVENT = 15_000
STEP_S = 0.002


class Line:
    """Carries ``per_s`` bytes a second, whose receipt comes back ``way_s`` after they were carried."""

    def __init__(self, per_s: float, way_s: float, window: int = 100) -> None:
        self.now = 0.0
        self.reach = Reach(lambda: self.now)
        self._per_s, self._way_s, self._window = per_s, way_s, window
        self._queue: deque[float] = deque()
        """When each was sent that the line has not carried."""
        self._back: deque[tuple[float, float]] = deque()
        """When each arrives, and when it was sent."""
        self._credit = 0.0
        self.waits: list[float] = []
        self.carried = 0

    @property
    def flying(self) -> int:
        return len(self._queue) + len(self._back)

    def run(self, seconds: float, *, backlog: bool = True) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += STEP_S
            self._credit = min(self._credit + self._per_s * STEP_S, self._per_s * STEP_S + EVENT)
            while self._queue and self._credit >= EVENT:
                self._credit -= EVENT
                self._back.append((self.now + self._way_s, self._queue.popleft()))
                self.carried += EVENT
            while self._back and self._back[0][0] <= self.now:
                _, sent = self._back.popleft()
                self.waits.append(self.now - sent)
                self.reach.landed(EVENT, self.now - sent, more=self.flying > 0)
            while backlog and self.flying < self._window and (self.flying + 1) * EVENT <= self.reach.bytes:
                self._queue.append(self.now)
                self.reach.left()


def test_a_quick_line_is_filled() -> None:
    line = Line(100e6, 0.001)
    line.run(2)
    assert line.reach.bytes == MOST


@pytest.mark.fault("F20")
@pytest.mark.parametrize("per_s", [125e3, 250e3, 1e6])
@pytest.mark.parametrize("way_s", [0.02, 0.3, 0.6])
def test_on_a_slow_one_a_fresh_result_waits_no_longer_than_it_may_and_it_stays_busy(per_s: float, way_s: float) -> None:
    line = Line(per_s, way_s)
    line.run(30)
    line.waits.clear()
    before = line.carried
    line.run(20)
    at_least = max(AHEAD_S, LEAST / per_s)
    one = EVENT / per_s
    assert max(line.waits) <= (at_least + way_s + one) * 1.35
    assert (line.carried - before) / 20 >= 0.9 * min(per_s, MOST / (way_s + AHEAD_S))


def test_a_far_line_is_no_slow_one() -> None:
    line = Line(100e6, 0.6)
    line.run(30)
    assert line.reach.bytes == MOST


def test_a_line_that_had_nothing_to_carry_is_not_taken_for_a_slow_one() -> None:
    line = Line(100e6, 0.01)
    line.run(2)
    for _ in range(50):  # now and then one event
        line.run(1.0, backlog=False)
        line.reach.left()
        line._queue.append(line.now)
    assert line.reach.bytes == MOST


@pytest.mark.fault("F20")
def test_it_follows_a_line_that_gets_slow_and_quick_again() -> None:
    line = Line(100e6, 0.01)
    line.run(2)
    line._per_s = 125e3
    line.run(60)
    assert line.reach.bytes <= 1.35 * 125e3 * (AHEAD_S + 0.01 + EVENT / 125e3)
    line._per_s = 100e6
    line.run(3)
    assert line.reach.bytes == MOST


def test_another_connection_begins_anew() -> None:
    line = Line(125e3, 0.02)
    line.run(20)
    assert line.reach.bytes < AT_FIRST
    line.reach.begin()
    assert line.reach.bytes == AT_FIRST
