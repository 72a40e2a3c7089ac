"""Which events are on their way, wait for the cloud's word, or are left alone for a while. No input, no output.

Nothing of this is kept: after a crash, all that the cloud has not acknowledged goes again (F18).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from agent.records.outbox import OutboxRow
from agent.sync.allowance import Allowance
from agent.sync.limits import SyncLimits
from agent.sync.reach import Reach
from engines.backoff import Backoff


class Flight(NamedTuple):
    """An event on its way to the broker. A tuple, as one is made for every event."""

    row: OutboxRow
    fresh: bool
    sent_at: float
    """On the monotonic clock."""


class _Awaited(NamedTuple):
    """An event that the broker took and the cloud has not acknowledged; times on the monotonic clock."""

    since: float
    due_at: float
    """When it is sent again."""


@dataclass(frozen=True)
class Wreck:
    """What a lost connection says of the events that were on their way."""

    blamed: OutboxRow | None = None
    """The one for which the broker seems to have closed it."""
    times: int = 0
    """How often now."""


class Flights:
    """Not for several threads. Event ids are in at most one of its lists."""

    def __init__(
        self,
        limits: SyncLimits,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._limits, self._clock, self._uniform = limits, clock, uniform
        self._flying: dict[int, Flight] = {}
        self._bytes = 0
        self._alone = False
        self._landed_at = clock()
        self._awaiting: dict[str, _Awaited] = {}
        self._none_due_before = float("inf")
        """Of those awaited; some may have gone since it was reckoned. It spares a look at each of them."""
        self._allowance = Allowance(limits.awaiting, clock)
        self._reach = Reach(clock)
        self._settling: set[str] = set()
        self._deferred: dict[str, tuple[float, str | None]] = {}
        """Until when, and the topic where it is for the topic's sake only."""
        self._blames: dict[str, int] = {}
        self._refusals: dict[str, int] = {}
        self._holds: dict[str, Backoff] = {}
        self._probing: dict[str, str] = {}
        self._receive_maximum = limits.window
        self._width = limits.window

    # Who may go

    def connected(self, receive_maximum: int, *, remembered: bool) -> None:
        """A connection begins. Where the broker does not remember us, what it took may be lost: all goes again."""
        self._receive_maximum = min(receive_maximum, self._limits.window)
        self._allowance.begin()
        self._reach.begin()
        if not remembered:
            self._awaiting.clear()

    def room(self) -> int:
        """How many more may be on their way."""
        if self._alone:
            return 0
        return max(0, min(self._receive_maximum, self._width) - len(self._flying))

    def may_go(self, row: OutboxRow, *, fresh: bool) -> bool:
        """Whether this one may go now; where its topic is held, it is left alone until then."""
        if (hold := self._holds.get(row.topic)) is not None and not (hold.over and row.topic not in self._probing):
            self._defer(row.event_id, max(hold.until, self._clock() + self._limits.hold_base_s), row.topic)
            return False
        if row.event_id in self._blames:
            return not self._flying  # alone: it is suspected of ending connections (F21)
        if self._flying and self._bytes + len(row.event) > self._reach.bytes:
            return False
        most = self._limits.awaiting + self._limits.awaiting_fresh if fresh else self._allowance.events
        return len(self._awaiting) + len(self._flying) < most

    def excluded(self) -> set[str]:
        """The events not to be looked up in the outbox now."""
        flying = {flight.row.event_id for flight in self._flying.values()}
        return flying | self._awaiting.keys() | self._settling | self._deferred.keys()

    def is_left_alone(self, row: OutboxRow) -> bool:
        """Whether it has been put off to a later time."""
        return row.event_id in self._deferred

    def left(self, number: int, row: OutboxRow, *, fresh: bool) -> None:
        """It has been handed to the connection as packet ``number``."""
        self._flying[number] = Flight(row, fresh, self._clock())
        self._alone = row.event_id in self._blames
        self._bytes += len(row.event)
        self._reach.left()
        if row.topic in self._holds:
            self._probing[row.topic] = row.event_id

    # What became of them

    def landed(self, number: int) -> Flight | None:
        """The broker said something about packet ``number``: it is no longer on its way. None: it is not ours."""
        flight = self._flying.pop(number, None)
        if flight is not None:
            self._landed_at = self._clock()
            size = len(flight.row.event)
            self._bytes -= size
            self._reach.landed(size, self._landed_at - flight.sent_at, more=bool(self._flying))
            self._alone = False
            self._width = min(self._limits.window, self._width + 1)
            self._blames.pop(flight.row.event_id, None)
            if self._probing.get(flight.row.topic) == flight.row.event_id:
                del self._probing[flight.row.topic]
        return flight

    def taken(self, flight: Flight) -> None:
        """The broker has it; the cloud's word is awaited, each time longer."""
        self._forget(flight.row)
        wait_s = min(self._limits.acknowledge_cap_s, self._limits.acknowledge_s * 2.0 ** min(flight.row.attempts, 30))
        now = self._clock()
        due_at = now + wait_s * self._uniform(0.75, 1.25)
        self._awaiting[flight.row.event_id] = _Awaited(now, due_at)
        self._none_due_before = min(self._none_due_before, due_at)

    def refused(self, flight: Flight, *, at_fault: bool) -> int:
        """The broker refused it or nobody heard it; the topic is left alone for a while.

        Returns how often it was refused for a fault that may be its own.
        """
        row = flight.row
        hold = self._holds.get(row.topic)
        if hold is None:
            limits = self._limits
            hold = self._holds[row.topic] = Backoff(limits.hold_base_s, limits.hold_cap_s, clock=self._clock)
        if hold.over:
            hold.failed()
        times = self._refusals[row.event_id] = self._refusals.get(row.event_id, 0) + at_fault
        # Longer than the topic, so that the next to try is another: one bad row must not hold up its topic.
        self._defer(row.event_id, hold.until + self._limits.hold_base_s * (1 + times))
        return times

    def settling(self, event_ids: Iterable[str]) -> None:
        """The cloud has these; the outbox is being told."""
        now, waited_s = self._clock(), []
        for event_id in event_ids:
            if (awaited := self._awaiting.pop(event_id, None)) is not None:
                waited_s.append(now - awaited.since)
            self._deferred.pop(event_id, None)
            self._settling.add(event_id)
        self._allowance.heard(waited_s)

    def unsettled(self, event_ids: Iterable[str], wait_s: float) -> None:
        """The outbox could not be told; they go again later, and the cloud will say so again."""
        for event_id in event_ids:
            self._settling.discard(event_id)
            self._defer(event_id, self._clock() + wait_s)

    def settled(self, event_ids: Iterable[str]) -> None:
        """The outbox knows."""
        for event_id in event_ids:
            self._settling.discard(event_id)
            self._refusals.pop(event_id, None)
            self._blames.pop(event_id, None)

    def overdue(self) -> list[str]:
        """Those whose acknowledgement did not come in time; they are due again."""
        now = self._clock()
        if now < self._none_due_before:
            return []
        late = [event_id for event_id, awaited in self._awaiting.items() if awaited.due_at <= now]
        for event_id in late:
            del self._awaiting[event_id]
        self._none_due_before = min((awaited.due_at for awaited in self._awaiting.values()), default=float("inf"))
        return late

    def rested(self) -> bool:
        """Whether some that were left alone may be looked at again."""
        now = self._clock()
        before = len(self._deferred)
        self._deferred = {event_id: entry for event_id, entry in self._deferred.items() if entry[0] > now}
        return len(self._deferred) < before

    def lost(self, *, closed: bool) -> Wreck:
        """The connection is gone. Who flew alone when the broker closed it, shortly after, is to blame (F21).

        Where several flew, fewer fly next time, until the guilty one flies alone. A silent end blames nobody.
        """
        flights = list(self._flying.values())
        self._flying.clear()
        self._probing.clear()
        self._bytes, self._alone = 0, False
        if not closed or not flights:
            return Wreck()
        if len(flights) > 1:
            self._width = max(1, min(self._width, len(flights)) // 4)
            return Wreck()
        (flight,) = flights
        if self._clock() - flight.sent_at > self._limits.blame_s:
            return Wreck()
        event_id = flight.row.event_id
        times = self._blames[event_id] = self._blames.get(event_id, 0) + 1
        self._defer(event_id, self._clock() + self._uniform(0.5, 1.0) * 2.0 ** min(times, 8))
        return Wreck(flight.row, times)

    def hurry(self) -> None:
        """Leave nothing alone any longer: all that is not on its way is due."""
        self._awaiting.clear()
        self._deferred.clear()
        self._holds.clear()
        self._probing.clear()

    # When to look again

    def next_at(self) -> float:
        """When something of this may end by itself, on the monotonic clock; infinity where nothing does."""
        times = [self._none_due_before] if self._awaiting else []
        times += [until for until, _ in self._deferred.values()]
        return min(times, default=float("inf"))

    @property
    def silent_since(self) -> float | None:
        """Since when the broker has said nothing though events are on their way; None where none is.

        A slow line needs minutes for a window: as long as one after the other is taken, the broker is there.
        """
        oldest = next(iter(self._flying.values()), None)  # they are noted in the order of their leaving
        return None if oldest is None else max(oldest.sent_at, self._landed_at)

    @property
    def flying(self) -> int:
        """Events on their way to the broker."""
        return len(self._flying)

    @property
    def awaiting(self) -> int:
        """Events that the broker took and the cloud has not acknowledged."""
        return len(self._awaiting)

    @property
    def held_topics(self) -> tuple[str, ...]:
        """Topics that the broker refuses, or nobody listens to."""
        return tuple(sorted(self._holds))

    def _defer(self, event_id: str, until: float, topic: str | None = None) -> None:
        if len(self._deferred) < self._limits.deferred or event_id in self._deferred:
            self._deferred[event_id] = (until, topic)

    def _forget(self, row: OutboxRow) -> None:
        self._refusals.pop(row.event_id, None)
        if self._holds.pop(row.topic, None) is not None:  # it goes through again, and so may the others
            self._deferred = {event_id: entry for event_id, entry in self._deferred.items() if entry[1] != row.topic}
