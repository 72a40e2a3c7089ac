"""What counts as progress, and what does not (F25)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.upkeep.progress import Changes, Echo, Pulse, any_of, each_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_loop_that_waits_for_others_is_not_wedged(clock: Clock) -> None:
    pulse = Pulse(clock)
    clock.now += 500
    assert pulse.beating() == 100.0
    with pulse.waiting():
        assert pulse.beating() == 600.0
        clock.now += 500
        assert pulse.beating() == 1100.0
    assert pulse.beating() == 1100.0
    clock.now += 10
    assert pulse.beating() == 1100.0


def test_the_oldest_step_at_work_counts(clock: Clock) -> None:
    pulse = Pulse(clock)
    clock.now = 200
    assert pulse.working() == 200.0
    with pulse.at_work():
        clock.now = 210
        with pulse.at_work():
            clock.now = 300
            assert pulse.working() == 200.0
        assert pulse.working() == 200.0
    assert pulse.working() == 300.0


def test_a_step_that_raises_has_ended(clock: Clock) -> None:
    pulse = Pulse(clock)
    with pytest.raises(ValueError, match="x"), pulse.at_work():
        raise ValueError("x")
    clock.now = 900
    assert pulse.working() == 900.0


def test_an_echo_is_progress_and_silence_is_not(clock: Clock) -> None:
    asked: list[Callable[[], None]] = []
    echo = Echo(asked.append, clock, every_s=5)
    assert echo() == 100.0
    assert not asked
    clock.now = 105
    assert echo() == 105.0
    clock.now = 180
    assert echo() == 105.0  # asked then, and not answered
    assert len(asked) == 1
    asked.pop()()
    assert echo() == 180.0
    assert len(asked) == 1  # the next question


def test_an_echo_that_cannot_be_asked_says_so_each_time(clock: Clock) -> None:
    def closed(_: Callable[[], None]) -> None:
        raise RuntimeError("closed")

    echo = Echo(closed, clock, every_s=5)
    for clock.now in (105, 111):
        with pytest.raises(RuntimeError):
            echo()


def test_attempts_that_are_counted_are_progress(clock: Clock) -> None:
    attempts = 0
    changes = Changes(lambda: attempts, clock)
    clock.now = 200
    assert changes() == 100.0
    attempts = 1
    assert changes() == 200.0
    clock.now = 300
    assert changes() == 200.0


def test_any_and_each(clock: Clock) -> None:
    assert any_of(lambda: 1.0, lambda: 5.0)() == 5.0
    assert each_of(lambda: iter([7.0, 3.0]), clock)() == 3.0
    assert each_of(lambda: iter([]), clock)() == 100.0
