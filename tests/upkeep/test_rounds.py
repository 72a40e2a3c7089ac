"""The rounds: each job at once and again and again, whatever befalls the others."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.upkeep import logs, rounds
from agent.upkeep.logs import TROUBLES, WINDOW_S, Lines, Repeats, Scrubber
from agent.upkeep.rounds import Rounds
from tests.faults.running import running


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


@pytest.mark.fault("F28")
def test_a_round_of_the_agent_tells_what_the_log_holds_back(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is said meanwhile: without a round that asks, the count would wait for the next line."""
    monkeypatch.setattr(rounds, "UPKEEP_S", 0.02)
    stream, now = io.StringIO(), [1000.0]
    lines = Lines(stream, Scrubber([]), priorities=False, repeats=Repeats(lambda: now[0]))
    root, log = logging.getLogger(), logging.getLogger("agent.records.writer")
    with running(write_config()) as (daemon, _):
        assert daemon.wait_ready(20)
        root.addHandler(lines)
        try:
            for _ in range(TROUBLES + 7):
                log.warning("rolling back failed: %s", "x")
            time.sleep(0.2)  # some rounds, within the window
            assert "held back" not in stream.getvalue()
            now[0] += WINDOW_S + 1
            give_up = time.monotonic() + 10
            while "held back: 7 more" not in stream.getvalue():
                assert time.monotonic() < give_up, stream.getvalue()
                time.sleep(0.02)
        finally:
            root.removeHandler(lines)
    said = stream.getvalue().splitlines()
    assert len(said) == TROUBLES + 1, said
    logs.look()  # and where the process has no log of ours, nothing happens
