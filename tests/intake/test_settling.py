"""The rules of when to read a file, with a clock that stands still."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.intake.capture import FileStamp
from agent.intake.settling import Candidates, Patience, Step

STAMP = FileStamp(1, 2, 300, 4, 5)
GROWN = replace(STAMP, size=400, mtime_ns=6)


@pytest.fixture
def candidates() -> Candidates:
    return Candidates(Patience(settle_s=2.0, found_after_s=0.25, truncated_after_s=10.0))


@pytest.mark.fault("F01")
def test_a_closed_file_is_read_at_once(candidates: Candidates) -> None:
    candidates.written("a", 0.0)
    assert candidates.take(0.0) is None
    candidates.closed("a", 1.0)
    assert candidates.take(1.0) == "a"
    assert candidates.decide("a", STAMP, 1.0) is Step.READ


@pytest.mark.fault("F01")
def test_a_file_that_is_written_and_not_closed_is_read_when_it_lies_still(candidates: Candidates) -> None:
    candidates.written("a", 0.0)
    assert candidates.take(1.9) is None
    assert candidates.take(2.0) == "a"
    assert candidates.decide("a", STAMP, 2.0) is Step.WAIT
    assert candidates.next_due() == 4.0
    assert candidates.take(4.0) == "a"
    assert candidates.decide("a", GROWN, 4.0) is Step.WAIT
    assert candidates.take(6.0) == "a"
    assert candidates.decide("a", GROWN, 6.0) is Step.READ


@pytest.mark.fault("F01")
def test_a_found_file_needs_the_same_stamp_twice(candidates: Candidates) -> None:
    candidates.found("a", 0.0)
    assert candidates.take(0.25) == "a"
    assert candidates.decide("a", STAMP, 0.25) is Step.WAIT
    assert candidates.take(0.49) is None
    assert candidates.take(0.5) == "a"
    assert candidates.decide("a", STAMP, 0.5) is Step.READ


@pytest.mark.fault("F01")
def test_a_file_without_its_end_is_taken_as_it_is_only_after_long_stillness(candidates: Candidates) -> None:
    candidates.closed("a", 0.0)
    assert candidates.take(0.0) == "a"
    assert candidates.decide("a", STAMP, 0.0) is Step.READ
    candidates.incomplete("a", STAMP, 0.0)
    assert candidates.take(9.9) is None
    assert candidates.take(10.0) == "a"
    assert candidates.decide("a", STAMP, 10.0) is Step.TAKE_AS_IT_IS


@pytest.mark.fault("F01")
def test_a_file_that_grows_meanwhile_is_read_anew(candidates: Candidates) -> None:
    candidates.closed("a", 0.0)
    candidates.take(0.0)
    candidates.decide("a", STAMP, 0.0)
    candidates.incomplete("a", STAMP, 0.0)
    assert candidates.take(10.0) == "a"
    assert candidates.decide("a", GROWN, 10.0) is Step.WAIT
    assert candidates.take(10.25) == "a"
    assert candidates.decide("a", GROWN, 10.25) is Step.READ


def test_a_later_close_ends_the_wait_for_a_file_without_its_end(candidates: Candidates) -> None:
    candidates.closed("a", 0.0)
    candidates.take(0.0)
    candidates.decide("a", STAMP, 0.0)
    candidates.incomplete("a", STAMP, 0.0)
    candidates.closed("a", 3.0)
    assert candidates.take(3.0) == "a"
    assert candidates.decide("a", STAMP, 3.0) is Step.READ


def test_a_closed_file_comes_before_those_that_were_found(candidates: Candidates) -> None:
    for number in range(1000):
        candidates.found(f"old {number:04d}", 0.0)
    candidates.closed("new", 5.0)
    assert candidates.take(5.0) == "new"
    assert candidates.take(5.0) == "old 0000"


def test_too_large_a_file_must_lie_still_even_when_closed(candidates: Candidates) -> None:
    candidates.closed("a", 0.0)
    candidates.take(0.0)
    assert candidates.decide("a", STAMP, 0.0, too_large=True) is Step.WAIT
    assert candidates.take(2.0) == "a"
    assert candidates.decide("a", STAMP, 2.0, too_large=True) is Step.READ


def test_failures_are_tried_again_ever_more_slowly(candidates: Candidates) -> None:
    now, waits = 0.0, []
    candidates.closed("a", now)
    candidates.take(now)
    for count in range(1, 10):
        assert candidates.failed("a", now) == count
        due = candidates.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
        assert candidates.take(now) == "a"
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == 30.0


def test_what_is_forgotten_is_never_due(candidates: Candidates) -> None:
    candidates.found("a", 0.0)
    candidates.closed("b", 0.0)
    for name in "ab":
        candidates.forget(name)
    assert candidates.next_due() is None
    assert candidates.take(1e9) is None
    assert len(candidates) == 0


def test_taken_and_not_decided_it_stays_a_candidate(candidates: Candidates) -> None:
    candidates.closed("a", 0.0)
    assert candidates.take(0.0) == "a"
    assert "a" in candidates
