"""Carries the outbox over one connection after the other: what goes next, and what became of it.

A row leaves the outbox only on the cloud's own word (F18). What is on its way is in memory only: whatever ends a
connection or the agent, the next one begins with what the outbox holds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Final

from agent.config import MqttSection
from agent.messages.catalogue import FEEDBACK, TELEMETRY
from agent.sync.bucket import TokenBucket
from agent.sync.flights import Flights
from agent.sync.happenings import Greeted
from agent.sync.limits import SyncLimits
from agent.sync.ports import OutboxPort, OutboxRow
from agent.sync.state import SyncCounts
from agent.sync.verdict import Fate, fate, sentence

log = logging.getLogger(__name__)

READY: Final = 400
"""Events that are kept ready to be sent; once fewer than half are left, more are read: 6 MB of results, so that a quick
line does not wait for the outbox (with 200 a tenth of the time, with 800 no less than with this)."""
MORE: Final = 20
"""Events read where enough are ready, because something new may be more urgent."""
STORE_PAUSE_S: Final = 5.0
"""Before what the store could not write is tried again."""
OVERHEAD: Final = 64
"""Bytes of an MQTT packet beside topic and payload, at most."""

_OWN_RANK: Final = {FEEDBACK.type: 0, TELEMETRY.type: 3}

Publish = Callable[[str, bytes], "int | None"]
"""Sends an event to the topic with this last part; gives the packet's number, None where the connection is gone."""
Order = Callable[[Callable[[], None]], None]
"""Has something done on the sync's thread; from any thread."""


class Courier:
    """Use from the sync's thread; the outbox's futures come back to it through ``order``."""

    def __init__(
        self,
        outbox: OutboxPort,
        settings: MqttSection,
        limits: SyncLimits,
        counts: SyncCounts,
        *,
        order: Order,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox, self._limits, self._counts, self._order, self._clock = outbox, limits, counts, order, clock
        self._puback_is_enough = settings.delivery == "puback"
        self._bucket = TokenBucket(settings.backlog_per_s, clock)
        self.flights = Flights(limits, clock)
        self._ready: list[OutboxRow] = []
        self._looking: Future[list[OutboxRow]] | None = None
        self._look_again = False
        self._look_at = 0.0
        self._tokens_at: float | None = None
        self._fresh_after = 0
        self._largest: int | None = None
        self._confirmed: list[str] = []

    def greeted(self, greeted: Greeted) -> None:
        """A connection begins; nothing is sent on it yet."""
        self.flights.connected(greeted.receive_maximum, remembered=greeted.session_present)
        self._largest = greeted.maximum_packet_size

    def begin(self) -> None:
        """It may be sent; what is written from now on is fresh."""
        self._fresh_after = self._outbox.outbox_stats().last_seq
        self.look()

    def look(self) -> None:
        """Something is new in the outbox, and may be more urgent than what is ready (F20)."""
        self._look_again, self._look_at = True, self._clock()

    def hurry(self) -> None:
        """Send all that is not on its way."""
        self.flights.hurry()
        self.look()

    def lost(self, *, closed: bool) -> None:
        """The connection is gone; ``closed`` by the broker, rather than by silence or by us."""
        self._ready, self._looking = [], None
        self._tell_confirmed()
        wreck = self.flights.lost(closed=closed)
        if wreck.blamed is None:
            return
        if wreck.times >= self._limits.blames:
            self._bury(wreck.blamed, f"the broker closed the connection over it {wreck.times} times")
        else:
            self._attempted([wreck.blamed.event_id])

    def taken(self, number: int, code: int) -> None:
        """The broker's word on packet ``number``."""
        flight = self.flights.landed(number)
        if flight is None:
            return
        row = flight.row
        match fate(code):
            case Fate.TAKEN:
                self._counts.taken += 1
                self.flights.taken(flight)
                if self._puback_is_enough:
                    self._confirmed.append(row.event_id)
            case Fate.UNHEARD:
                self._counts.unheard += 1
                self.flights.refused(flight, at_fault=False)
                self._attempted([row.event_id])
            case Fate.REFUSED:
                self._counts.refused += 1
                times = self.flights.refused(flight, at_fault=True)
                if times >= self._limits.refusals:
                    self._bury(row, f"refused {times} times: {sentence(code)}")
                else:
                    self._attempted([row.event_id])
            case Fate.CONDEMNED:
                self._bury(row, sentence(code))

    def acknowledge(self, event_ids: Collection[str]) -> Future[int]:
        """The cloud has these."""
        self.flights.settling(event_ids)
        had = set(event_ids)
        self._ready = [row for row in self._ready if row.event_id not in had]
        done = self._outbox.outbox_acknowledge(event_ids)
        done.add_done_callback(lambda future: self._order(partial(self._acknowledged, event_ids, future)))
        return done

    def work(self, publish: Publish) -> None:
        """Do what is due: tell the outbox, send again what is overdue, send what may go."""
        self._tell_confirmed()
        if late := self.flights.overdue():
            self._counts.overdue += len(late)
            self._attempted(late)
        if self.flights.rested() or late:
            self.look()
        self._read_ahead()
        if self._ready and self.flights.room() > 0:
            self._send(publish)
            self._read_ahead()

    def next_at(self) -> float:
        """When there is something to do although nothing happens, on the monotonic clock."""
        times = [self.flights.next_at()]
        if self.flights.room() > 0:
            times += [self._look_at] if self._wants_more() else []
            times += [self._tokens_at] if self._tokens_at is not None else []
        return min(times)

    def _wants_more(self) -> bool:
        """Whether the outbox is to be read as soon as it is time; not while it is being read."""
        return self._looking is None and (self._look_again or len(self._ready) < READY // 2)

    def _read_ahead(self) -> None:
        """Have more read, beside the sending: while the store writes nobody waits for it here."""
        if not self._wants_more() or self._clock() < self._look_at:
            return
        self._look_again = False
        exclude = self.flights.excluded().union(row.event_id for row in self._ready)
        limit = max(READY - len(self._ready), MORE)
        looking = self._outbox.outbox_look(limit, fresh_after_seq=self._fresh_after, exclude=exclude)
        self._looking = looking
        looking.add_done_callback(lambda done: self._order(partial(self._found, done, limit)))

    def _found(self, done: Future[list[OutboxRow]], limit: int) -> None:
        """They were read. Meanwhile something may have become of some of them."""
        if done is not self._looking:
            return  # it was for a connection that is gone
        self._looking = None
        rows = done.result()
        self._look_at = self._clock() + (0.0 if len(rows) == limit else self._limits.look_s)
        gone = self.flights.excluded()
        self._ready += [row for row in rows if row.event_id not in gone]
        self._ready.sort(key=self._urgency)
        del self._ready[READY:]  # the least urgent; they are read again

    def _urgency(self, row: OutboxRow) -> int:
        """As the outbox ranks them; within a rank the order stays."""
        if row.type in _OWN_RANK:
            return _OWN_RANK[row.type]
        return 1 if self._is_fresh(row) else 2

    def _is_fresh(self, row: OutboxRow) -> bool:
        return row.type == FEEDBACK.type or row.seq > self._fresh_after

    def _send(self, publish: Publish) -> None:
        """Send of what is ready what may go now, the most urgent first."""
        kept: list[OutboxRow] = []
        self._tokens_at = None
        for place, row in enumerate(self._ready):
            if self._tokens_at is not None or self.flights.room() == 0:
                kept += self._ready[place:]
                break
            fresh = self._is_fresh(row)
            if self._largest is not None and len(row.event) + len(row.topic) + OVERHEAD > self._largest:
                self._bury(row, f"it has {len(row.event)} bytes, and the broker takes packets of {self._largest}")
            elif not self.flights.may_go(row, fresh=fresh):
                kept += [] if self.flights.is_left_alone(row) else [row]
            elif not (fresh or self._bucket.take()):
                self._tokens_at = self._clock() + self._bucket.wait_s()
                kept.append(row)
            elif not _can_be_published_to(row.topic):
                self._bury(row, f"no message can be published to a topic called {row.topic!r}")
            elif (number := publish(row.topic, row.event)) is None:
                kept += self._ready[place:]
                break  # that the connection is gone is told by itself
            else:
                self.flights.left(number, row, fresh=fresh)
                self._counts.sent += 1
        self._ready = kept

    # What the outbox is told

    def _tell_confirmed(self) -> None:
        if self._confirmed:
            confirmed, self._confirmed = self._confirmed, []
            self.acknowledge(confirmed)

    def _acknowledged(self, event_ids: Collection[str], done: Future[int]) -> None:
        if (error := done.exception()) is None:
            self._counts.acknowledged += done.result()
            self.flights.settled(event_ids)
        else:
            log.warning("acknowledgements could not be kept, and will come again: %s", error)
            self.flights.unsettled(event_ids, STORE_PAUSE_S)

    def _bury(self, row: OutboxRow, reason: str) -> None:
        """Give it up, visibly; whatever waits behind it goes on (F21)."""
        log.error("event %s (%s) is given up: %s; see: dermascan queue dead", row.event_id, row.type, reason)
        self._counts.dead += 1
        self.flights.settling([row.event_id])
        done = self._outbox.outbox_dead(row.event_id, reason)
        done.add_done_callback(lambda future: self._order(partial(self._buried, row.event_id, future)))

    def _buried(self, event_id: str, done: Future[None]) -> None:
        if done.exception() is None:
            self.flights.settled([event_id])
        else:
            self.flights.unsettled([event_id], STORE_PAUSE_S)

    def _attempted(self, event_ids: Collection[str]) -> None:
        self._outbox.outbox_attempted(event_ids).add_done_callback(_note_failure)


@lru_cache(maxsize=64)
def _can_be_published_to(topic: str) -> bool:
    return topic != "" and not set(topic) & set("+#\0")


def _note_failure(done: Future[None]) -> None:
    if (error := done.exception()) is not None:
        log.warning("attempts could not be counted: %s", error)
