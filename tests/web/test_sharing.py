"""Whose turn it is: captures of a folder first, the API's a bounded share; by an injected clock, nothing is timed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from agent.carrying import CAPTURES_PER_REQUEST, QUIET_S, REST, WAITING, Busy, Carried, Stopped, Turns
from agent.intake.capture import Capture, FileStamp

STAMP = FileStamp(0, 0, 0, 0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def capture(name: str) -> Capture:
    return Capture.from_bytes(Path(name), "scope-1", STAMP, name.encode())


def take(turns: Turns) -> str | None:
    """Whose turn it is now, given back at once to nobody: the caller says `done`."""
    taken = turns.take(0.0)
    return None if taken is None else str(taken.arrival.path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def turns_of(clock: Clock, at_once: int = 2, room: int = 100) -> Turns:
    return Turns(room, lambda: at_once, clock)


@pytest.mark.requirement("R-SEC-6")
def test_a_folders_capture_goes_before_requests_that_came_first(clock: Clock) -> None:
    turns = turns_of(clock)
    turns.ask(capture("asked"))
    turns.put(Carried(capture("folder")), 0.0)
    assert take(turns) == "folder"
    assert take(turns) is None, "not while the folder's is in work, either"


@pytest.mark.requirement("R-SEC-6")
def test_while_captures_come_one_after_the_other_one_request_goes_for_every_ten(clock: Clock) -> None:
    turns = turns_of(clock)
    for number in range(40):
        turns.put(Carried(capture(f"f{number}")), 0.0)
        turns.ask(capture(f"r{number}"))
    order = []
    while len(order) < 40:
        carried = turns.take(0.0)
        assert carried is not None
        order.append(str(carried.arrival.path)[0])
        clock.now += 0.1
        turns.done(carried)
    assert "".join(order) == ("f" * CAPTURES_PER_REQUEST + "r") * 3 + "f" * 7


@pytest.mark.requirement("R-SEC-6")
def test_a_request_leaves_the_engine_alone_after_it_while_captures_come_now_and_then(clock: Clock) -> None:
    turns = turns_of(clock)
    turns.put(Carried(capture("f")), 0.0)
    folder = turns.take(0.0)
    assert folder is not None
    turns.done(folder)
    for name in ("r1", "r2", "r3"):
        turns.ask(capture(name))
    first = turns.take(0.0)
    assert first is not None
    assert take(turns) is None, "one at a time"
    clock.now += 0.5
    turns.done(first)
    clock.now += REST * 0.5 - 0.01
    assert take(turns) is None
    clock.now += 0.02
    assert take(turns) == "r2"


@pytest.mark.requirement("R-SEC-6")
def test_a_capture_need_not_wait_for_a_rest(clock: Clock) -> None:
    turns = turns_of(clock)
    turns.put(Carried(capture("f1")), 0.0)
    for _ in range(2):
        carried = turns.take(0.0)
        assert carried is not None
        turns.done(carried)
        turns.ask(capture("r"))
    turns.put(Carried(capture("f2")), 0.0)
    assert take(turns) == "f2"


def test_where_no_folder_was_heard_of_requests_share_the_engine(clock: Clock) -> None:
    turns = turns_of(clock, at_once=3)
    for number in range(5):
        turns.ask(capture(f"r{number}"))
    assert [take(turns) for _ in range(4)] == ["r0", "r1", "r2", None]
    turns.put(Carried(capture("f")), 0.0)
    assert take(turns) == "f", "there is an analyst left for it"


def test_after_a_while_of_quiet_the_engine_is_the_requests_again(clock: Clock) -> None:
    turns = turns_of(clock)
    turns.put(Carried(capture("f")), 0.0)
    carried = turns.take(0.0)
    assert carried is not None
    turns.done(carried)
    for number in range(2):
        turns.ask(capture(f"r{number}"))
    clock.now += QUIET_S + 0.1
    assert [take(turns), take(turns)] == ["r0", "r1"]


def test_too_many_requests_are_told_when_to_come_again(clock: Clock) -> None:
    turns = turns_of(clock)
    for number in range(WAITING):
        turns.ask(capture(f"r{number}"))
    with pytest.raises(Busy) as caught:
        turns.ask(capture("one more"))
    assert caught.value.retry_s >= 1.0
    assert turns.load().waiting == WAITING
    assert turns.put(Carried(capture("f")), 0.0), "a folder's capture finds room all the same"


def test_a_full_queue_holds_the_folders_watch_and_nobody_else(clock: Clock) -> None:
    turns = turns_of(clock, room=1)
    assert turns.put(Carried(capture("f1")), 0.0)
    assert not turns.put(Carried(capture("f2")), 0.0)
    turns.ask(capture("r"))


def test_who_waits_at_the_end_is_told(clock: Clock) -> None:
    turns = turns_of(clock)
    ended = turns.ask(capture("r"))
    turns.close()
    with pytest.raises(Stopped):
        ended.result(0)
    with pytest.raises(Stopped):
        turns.ask(capture("later"))


class Waiting:
    """Threads that wait for a turn each, by the real clock."""

    def __init__(self, turns: Turns, number: int = 1) -> None:
        self._turns = turns
        self._got: list[Carried | None] = []
        self._threads = [threading.Thread(target=self._wait, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def _wait(self) -> None:
        self._got.append(self._turns.take(60.0))

    def join(self) -> list[str | None]:
        for thread in self._threads:
            thread.join(10.0)
            assert not thread.is_alive(), "nobody woke it"
        return [None if one is None else str(one.arrival.path) for one in self._got]


def test_each_that_comes_wakes_one_who_waits() -> None:
    turns = Turns(4)
    waiting = Waiting(turns, 3)
    for name in ("a", "b", "c"):
        assert turns.put(Carried(capture(name)), 0.0)
    assert sorted(map(str, waiting.join())) == ["a", "b", "c"]


def test_the_end_of_a_rest_wakes_who_waits() -> None:
    turns = Turns(4, lambda: 2)
    assert turns.put(Carried(capture("f")), 0.0)
    folder = turns.take(0.0)
    assert folder is not None
    turns.done(folder)
    turns.ask(capture("r1"))
    first = turns.take(0.0)
    assert first is not None
    turns.ask(capture("r2"))
    waiting = Waiting(turns)
    time.sleep(0.02)
    turns.done(first)  # a rest of four times as long begins, and nothing happens at its end
    assert take(turns) is None
    assert waiting.join() == ["r2"]


def test_who_waits_looks_about_only_when_something_may_have_changed() -> None:
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic()

    turns = Turns(4, lambda: 2, clock)
    assert turns.put(Carried(capture("f")), 0.0)
    assert take(turns) == "f"
    turns.ask(capture("r"))
    waiting = Waiting(turns)
    time.sleep(0.3)
    assert looks < 30, "a folder's capture is in work: the request waits for its end, asleep"
    turns.leave_off()
    assert waiting.join() == [None]


def test_at_the_end_nobody_waits_and_no_turn_begins() -> None:
    turns = Turns(4)
    waiting = Waiting(turns, 3)
    turns.leave_off()
    assert waiting.join() == [None] * 3
    assert turns.put(Carried(capture("f")), 0.0)
    assert turns.take(0.0) is None
