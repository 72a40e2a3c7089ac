"""The bucket lets through what it says, whoever comes and under however many names."""

from __future__ import annotations

import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agent.access.rate import RateLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate():
    clock = Clock()
    limit = RateLimit(2.0, 3, clock)
    assert [limit.allow("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.allow("a") == pytest.approx(0.5)
    assert limit.allow("a") == pytest.approx(0.5), "asking again in vain costs nothing"
    assert limit.allow("b") == 0.0
    clock.now += 0.5
    assert limit.allow("a") == 0.0
    assert limit.allow("a") == pytest.approx(0.5)
    clock.now += 3600
    assert [limit.allow("a") for _ in range(4)][:3] == [0.0, 0.0, 0.0]
    assert limit.allow("a") > 0


def test_turns_come_one_after_the_other_and_none_is_further_away_than_the_longest():
    clock = Clock()
    limit = RateLimit(2.0, 3, clock)
    waits = [limit.turn("a", 1.2) for _ in range(7)]
    assert waits == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0, 1.2, 1.2])
    assert limit.turn("b", 1.2) == 0.0
    clock.now += 1.0  # what waited too long was not counted: two turns passed, and the third is the next one's
    assert limit.turn("a", 1.2) == pytest.approx(0.5)


@given(
    steps=some.lists(some.floats(0, 3), min_size=1, max_size=60),
    rate=some.floats(0.1, 50),
    burst=some.integers(1, 20),
)
def test_no_pattern_of_coming_gets_more_than_its_share_and_waiting_as_told_is_enough(steps, rate, burst):
    clock = Clock()
    limit, begin = RateLimit(rate, burst, clock), clock.now
    for gone, step in enumerate(steps, 1):
        clock.now += step
        wait_s = limit.allow("a")
        if wait_s > 0:
            clock.now += wait_s + 1e-6
            assert limit.allow("a") == 0.0
        assert gone <= burst + (clock.now - begin) * rate + 1e-3


@pytest.mark.fault("F16")
def test_a_clock_that_goes_back_locks_nobody_out_for_long():
    clock = Clock()
    limit = RateLimit(1.0, 2, clock)
    assert limit.allow("a") == 0.0
    clock.now -= 13.0
    assert limit.allow("a") <= 14.0


def test_memory_is_bounded_and_who_comes_under_many_names_gains_nothing():
    clock = Clock()
    limit = RateLimit(1.0, 1, clock, most_keys=100)
    assert limit.allow("honest") == 0.0
    through = sum(limit.allow(f"name {number}") == 0.0 for number in range(10_000))
    assert through <= 100
    assert len(limit) <= 101
    assert limit.allow("honest") > 0, "its own count was not pushed out"
    clock.now += 2
    assert limit.allow("somebody new") == 0.0
    assert limit.allow("honest") == 0.0


def test_long_names_are_not_kept():
    limit = RateLimit(1.0, 1)
    limit.allow("warm up" * 100_000)
    tracemalloc.start()
    for number in range(1000):
        limit.allow(f"{number}" * 100_000)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1_000_000


def test_threads_together_get_what_one_would():
    limit = RateLimit(0.001, 50)
    through: list[float] = []

    def come() -> None:
        through.extend(limit.allow("a") for _ in range(100))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert through.count(0.0) == 50


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_what_lets_nobody_through_is_no_limit(rate, burst):
    with pytest.raises(ValueError, match="must be above 0"):
        RateLimit(rate, burst)
