"""Captures in work at once: as many as the engine can answer in time, never fewer than two."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.pace import Pace


@pytest.mark.parametrize(
    ("run_s", "deadline_s", "expected"),
    [
        (None, 3.0, 2),
        (0.0, 3.0, 2),
        (0.004, 3.0, 6),
        (0.13, 3.0, 6),
        (0.3, 3.0, 5),
        (0.7, 3.0, 2),
        (9.0, 3.0, 2),
    ],
)
def test_the_limit_follows_the_engine(run_s: float | None, deadline_s: float, expected: int) -> None:
    assert Pace(6).limit(run_s, deadline_s) == expected


def test_no_more_than_the_limit_are_inside() -> None:
    pace, lock, inside, seen, limit = Pace(6), threading.Lock(), [0], [0], [2]
    together = threading.Barrier(2)

    def work() -> None:
        with pace.inside(lambda: limit[0], lambda: None):
            with lock:
                inside[0] += 1
                seen[0] = max(seen[0], inside[0])
            together.wait(10)  # two at a time, or nobody comes out
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work) for _ in range(6)]:
            done.result(20)
    assert seen[0] == 2


def test_room_is_given_back_after_an_error_and_waiting_ends_when_stopped() -> None:
    pace = Pace(6)
    with pytest.raises(ValueError, match="broken"), pace.inside(lambda: 1, lambda: None):
        raise ValueError("broken")

    def stopped() -> None:
        raise InterruptedError

    with pace.inside(lambda: 1, lambda: None), pytest.raises(InterruptedError), pace.inside(lambda: 1, stopped):
        pytest.fail("two inside, where one was allowed")
