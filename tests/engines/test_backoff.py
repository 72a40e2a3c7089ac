"""Back-off: it grows, it is jittered, it is bounded, and only lasting good work forgets."""

from __future__ import annotations

from engines.backoff import Backoff


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(clock=Clock(), uniform=lambda low, high: high)
    delays = [backoff.failed() for _ in range(2000)]
    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert set(delays[9:]) == {30.0}


def test_the_jitter_is_full() -> None:
    drawn = []
    backoff = Backoff(clock=Clock(), uniform=lambda low, high: drawn.append((low, high)) or 0.0)  # type: ignore[func-returns-value]
    backoff.failed()
    backoff.failed()
    assert drawn == [(0.0, 0.1), (0.0, 0.2)]


def test_only_a_stable_while_forgets() -> None:
    clock = Clock()
    backoff = Backoff(stable_s=60.0, clock=clock, uniform=lambda low, high: high)
    backoff.failed()
    backoff.worked()
    clock.now += 59.0
    backoff.worked()
    assert backoff.failed() == 0.2, "59 s are not stable"
    backoff.worked()
    clock.now += 60.0
    assert backoff.failed() == 0.1


def test_it_is_over_when_the_clock_says_so() -> None:
    clock = Clock()
    backoff = Backoff(base_s=1.0, clock=clock, uniform=lambda low, high: high)
    assert backoff.over
    backoff.failed()
    assert not backoff.over
    clock.now += 1.0
    assert backoff.over
