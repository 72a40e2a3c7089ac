"""Which events may go when, without a network and without waiting."""

from __future__ import annotations

import pytest

from agent.messages.catalogue import RESULT
from agent.records.outbox import OutboxRow
from agent.sync.bucket import TokenBucket
from agent.sync.flights import Flights
from agent.sync.limits import SyncLimits
from agent.sync.verdict import Fate, fate


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flights(clock: Clock) -> Flights:
    made = Flights(SyncLimits(), clock, uniform=lambda _low, high: high)
    made.connected(65535, remembered=True)
    return made


def row(number: int, *, size: int = 100, topic: str = "results", attempts: int = 0) -> OutboxRow:
    return OutboxRow(number, f"event-{number}", RESULT.type, topic, b"x" * size, attempts, "t")


def fly(flights: Flights, *numbers: int) -> None:
    for number in numbers:
        assert flights.may_go(row(number), fresh=False)
        flights.left(number, row(number), fresh=False)


def take(flights: Flights, number: int) -> None:
    flight = flights.landed(number)
    assert flight is not None
    flights.taken(flight)


@pytest.mark.parametrize(("receive_maximum", "window"), [(65535, 100), (20, 20), (1, 1)])
def test_the_window_is_the_smaller_of_ours_and_the_brokers(flights: Flights, receive_maximum: int, window: int) -> None:
    flights.connected(receive_maximum, remembered=True)
    fly(flights, *range(window))
    assert flights.room() == 0
    take(flights, 0)
    assert flights.room() == 1


def test_bytes_on_their_way_are_bounded_but_one_always_may_go(flights: Flights) -> None:
    assert flights.may_go(row(1, size=1_000_000), fresh=False)
    flights.left(1, row(1, size=600_000), fresh=False)
    assert not flights.may_go(row(2), fresh=True)
    take(flights, 1)
    assert flights.may_go(row(2), fresh=True)


def test_the_clouds_word_is_awaited_longer_each_time(flights: Flights, clock: Clock) -> None:
    waits = []
    for attempts in (0, 1, 2, 10, 10_000):
        flights.left(7, row(7, attempts=attempts), fresh=False)
        take(flights, 7)
        waits.append(flights.next_at() - clock.now)
        clock.now = flights.next_at()
        assert flights.overdue() == ["event-7"]
    assert waits == [37.5, 75.0, 150.0, 1125.0, 1125.0]


def test_what_awaits_the_cloud_goes_again_where_the_broker_does_not_remember_us(flights: Flights) -> None:
    fly(flights, 1)
    take(flights, 1)
    flights.lost(closed=True)
    flights.connected(100, remembered=True)
    assert flights.excluded() == {"event-1"}
    flights.connected(100, remembered=False)
    assert flights.excluded() == set()


@pytest.mark.fault("F21")
def test_fewer_fly_after_each_crash_until_one_flies_alone(flights: Flights) -> None:
    fly(flights, *range(100))
    sizes = []
    for _ in range(4):
        assert flights.lost(closed=True).blamed is None or flights.room() == 1
        sizes.append(flights.room())
        fly(flights, *range(flights.room()))
    assert sizes[:3] == [25, 6, 1]


@pytest.mark.fault("F21")
def test_who_flew_alone_is_blamed_and_flies_alone_from_then_on(flights: Flights, clock: Clock) -> None:
    fly(flights, 1)
    wreck = flights.lost(closed=True)
    assert (wreck.blamed, wreck.times) == (row(1), 1)
    assert "event-1" in flights.excluded()
    clock.now += 10.0
    assert flights.rested()
    fly(flights, 2)
    assert not flights.may_go(row(1), fresh=True)
    take(flights, 2)
    fly(flights, 1)
    assert flights.room() == 0
    take(flights, 1)
    assert flights.room() > 0
    fly(flights, 3)
    assert flights.may_go(row(1), fresh=True)  # it has proved itself


@pytest.mark.fault("F21")
@pytest.mark.parametrize(("closed", "later_s"), [(False, 0.0), (True, 6.0)])
def test_silence_and_late_ends_blame_nobody(flights: Flights, clock: Clock, closed: bool, later_s: float) -> None:
    fly(flights, 1)
    clock.now += later_s
    assert flights.lost(closed=closed).blamed is None
    assert flights.excluded() == set()


@pytest.mark.fault("F22")
def test_a_refused_topic_is_tried_with_one_event_at_a_time_and_another_each_time(
    flights: Flights, clock: Clock
) -> None:
    fly(flights, 1, 2)
    for number in (1, 2):
        flight = flights.landed(number)
        assert flight is not None
        flights.refused(flight, at_fault=True)
    assert flights.held_topics == ("results",)
    assert not flights.may_go(row(3), fresh=True)
    assert flights.may_go(row(4, topic="telemetry"), fresh=False)
    clock.now += 5.0
    assert flights.rested()
    assert flights.excluded() == {"event-1", "event-2"}
    fly(flights, 3)
    assert not flights.may_go(row(5), fresh=True)
    take(flights, 3)
    assert flights.held_topics == ()
    assert flights.may_go(row(5), fresh=True)
    assert "event-5" not in flights.excluded()


def test_nothing_grows_without_end(flights: Flights, clock: Clock) -> None:
    fly(flights, 0)
    flight = flights.landed(0)
    assert flight is not None
    flights.refused(flight, at_fault=False)
    for number in range(10_000):
        flights.may_go(row(number), fresh=False)
    assert len(flights.excluded()) <= SyncLimits().deferred
    for number in range(10_000):
        flights.settling([f"event-{number}"])
        flights.settled([f"event-{number}"])
    assert flights.excluded() == set()


def test_the_bucket_gives_so_many_a_second(clock: Clock) -> None:
    bucket = TokenBucket(10.0, clock)
    given = sum(bucket.take() for _ in range(100))
    assert given == 2
    assert bucket.wait_s() == pytest.approx(0.1)
    for _ in range(100):
        clock.now += 0.1
        given += bucket.take()
    assert given == pytest.approx(102, abs=1)


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0x00, Fate.TAKEN),
        (0x10, Fate.UNHEARD),
        (0x80, Fate.REFUSED),
        (0x87, Fate.REFUSED),
        (0x97, Fate.REFUSED),
        (0xFF, Fate.REFUSED),
        (0x90, Fate.CONDEMNED),
        (0x95, Fate.CONDEMNED),
        (0x99, Fate.CONDEMNED),
    ],
)
def test_what_a_reason_code_means(code: int, expected: Fate) -> None:
    assert fate(code) is expected


@pytest.mark.fault("F22")
def test_a_slow_line_is_no_silence_and_a_mute_broker_is(flights: Flights, clock: Clock) -> None:
    assert flights.silent_since is None
    fly(flights, 1, 2, 3)
    began = clock.now
    assert flights.silent_since == began
    for number in (1, 2):
        clock.now += 50.0
        take(flights, number)
        assert flights.silent_since == clock.now, "the oldest waits long, but the broker takes one after the other"
    clock.now += 61.0
    assert flights.silent_since == clock.now - 61.0
    take(flights, 3)
    assert flights.silent_since is None
