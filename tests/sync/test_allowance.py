"""How many of a backlog may wait for the cloud's word (F20)."""

from __future__ import annotations

from collections import deque

import pytest

from agent.sync.allowance import BEHIND_S, LEAST, Allowance


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_quick_cloud_gets_as_many_as_there_may_be() -> None:
    clock = Clock()
    allowance = Allowance(500, clock)
    for _ in range(100):
        clock.now += 0.05
        allowance.heard([0.08] * 100)
    assert allowance.events == 500


def test_a_far_cloud_is_no_slow_one() -> None:
    """A word that always takes long, over a satellite, says nothing of a queue."""
    clock = Clock()
    allowance = Allowance(500, clock)
    for _ in range(100):
        clock.now += 0.5
        allowance.heard([1.4, 1.5])
    assert allowance.events == 500


@pytest.mark.fault("F20")
@pytest.mark.parametrize("per_s", [100, 400, 800])
def test_a_slow_cloud_s_queue_gets_short_and_stays_busy(per_s: int) -> None:
    clock = Clock()
    allowance = Allowance(500, clock)
    queue: deque[float] = deque()
    waits: list[float] = []
    idle = 0
    for step in range(2000):
        clock.now += 0.01
        queue.extend([clock.now] * (allowance.events - len(queue)))
        done = [clock.now - queue.popleft() for _ in range(min(len(queue), per_s // 100))]
        idle += len(done) < per_s // 100
        allowance.heard([wait + 0.03 for wait in done])
        if step > 1000:
            waits += done
    assert idle == 0, "it always has something to do"
    assert max(waits) < max(2 * BEHIND_S, 2 * LEAST / per_s)


def test_it_comes_back() -> None:
    clock = Clock()
    allowance = Allowance(500, clock)
    allowance.heard([0.05])
    for _ in range(20):
        clock.now += 2.0
        allowance.heard([1.0])
    assert allowance.events == LEAST
    for _ in range(30):
        clock.now += 0.1
        allowance.heard([0.1] * 100)
    assert allowance.events == 500
    allowance.heard([])
    allowance.begin()
    assert allowance.events == 500


def test_a_small_one_is_not_made_larger() -> None:
    clock = Clock()
    allowance = Allowance(10, clock)
    allowance.heard([0.05])
    clock.now += 5.0
    allowance.heard([3.0])
    assert allowance.events == 10
