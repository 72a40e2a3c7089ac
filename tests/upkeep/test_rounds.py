"""The rounds: each job at once and again and again, whatever befalls the others."""

from __future__ import annotations

import threading

import pytest

from agent.upkeep import rounds
from agent.upkeep.rounds import Rounds


def test_a_job_that_breaks_off_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "UPKEEP_S", 0.01)
    done: list[str] = []
    thrice = threading.Event()
    stop = threading.Event()

    def breaks() -> None:
        done.append("breaks")
        raise RuntimeError("nobody thought of this")

    def goes_on() -> None:
        done.append("goes on")
        if done.count("goes on") == 3:
            thrice.set()

    round_of = Rounds((breaks, lambda: done.append("once")), (breaks, goes_on), stop)
    round_of.start()
    assert thrice.wait(10)
    stop.set()
    round_of.join()
    assert done[:4] == ["breaks", "once", "breaks", "goes on"]
    assert done.count("once") == 1


def test_nothing_more_is_begun_once_it_is_to_stop() -> None:
    stop = threading.Event()
    done: list[str] = []
    round_of = Rounds((stop.set,), (lambda: done.append("late"),), stop)
    round_of.start()
    round_of.join()
    assert done == []
