"""The owner of the MQTT connection: one thread that carries the outbox to the cloud and hears what the cloud says.

Whatever goes wrong here, answers are given and kept all the same: nothing waits for this thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Final, Literal

from agent.config import MqttSection
from agent.messages.catalogue import STATUS, topic_of
from agent.messages.envelope import Sender
from agent.records.errors import StoreClosed
from agent.sync.bell import Bell
from agent.sync.connection import Connection, Will
from agent.sync.courier import Courier
from agent.sync.dialect import Dialect
from agent.sync.downlink import TOPICS, Downlink
from agent.sync.greeting import status_event
from agent.sync.happenings import Greeted, Happening, Heard, Lost, Subscribed, Taken, TurnedAway
from agent.sync.inbox import Inbox
from agent.sync.limits import SyncLimits
from agent.sync.ports import OutboxPort
from agent.sync.state import Phase, SyncCounts, SyncState
from agent.sync.tls import CannotConnect, refusal_hint
from agent.sync.verdict import Fate, fate, sentence
from engines.backoff import Backoff

log = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 5.0
"""paho must look at its keep-alive clock now and then."""
SUSPICIOUS: Final = 3
"""Connections in a row that ended soon, before a second agent of the same id is thought of (F17)."""


def _wall() -> datetime:
    return datetime.now(timezone.utc)


class _Ended(Exception):
    """The connection is gone."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(lost.sentence)
        self.lost = lost


class Publisher:
    """Start it once, stop it once; `wake`, `sync_now`, `state` and `counts` may be used from any thread."""

    def __init__(
        self,
        outbox: OutboxPort,
        inbox: Inbox,
        settings: MqttSection,
        sender: Sender,
        *,
        limits: SyncLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = _wall,
        clock_trusted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._inbox, self._settings, self._sender = inbox, settings, sender
        self._limits = limits or SyncLimits()
        self._clock, self._wall, self._clock_trusted = clock, wall, clock_trusted
        self.counts = SyncCounts()
        self._state = SyncState(Phase.CONNECTING, "has not begun", "5")
        self._courier = Courier(outbox, settings, self._limits, self.counts, order=self._order, clock=clock)
        self._backoff = Backoff(
            self._limits.reconnect_base_s, self._limits.reconnect_cap_s, self._limits.stable_s, clock=clock
        )
        self._dialect = Dialect()
        self._bell = Bell()
        self._stopping = threading.Event()
        self._posted = threading.Event()
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._downlink: Downlink | None = None
        self._begin_connection(None)

    def _begin_connection(self, connection: Connection | None) -> None:
        self._connection = connection
        self._greeted_us = self._subscribed = False
        self._birth: int | None = None
        if self._downlink is not None:
            self._downlink.end()
        self._downlink = None
        if connection is not None:
            self._downlink = Downlink(
                connection,
                self._courier,
                self._inbox,
                self.counts,
                order=self._order,
                sync_now=self.sync_now,
                clock=self._clock,
            )

    # From any thread

    def start(self) -> None:
        """Begin; also where the thread died, which only a fault beyond exceptions can do."""
        if not (self.alive or self._stopping.is_set()):
            self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
            self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Say goodbye to the broker and end; False where that took longer than ``timeout_s`` (the thread is left)."""
        self._stopping.set()
        self._bell.ring()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self.alive:
            return False
        self._bell.close()
        return True

    def wake(self) -> None:
        """Something new is in the outbox."""
        self._posted.set()
        self._bell.ring()

    def sync_now(self) -> None:
        """Send all that is not on its way, at once."""
        self._order(self._hurry)

    @property
    def state(self) -> SyncState:
        """How it stands."""
        return self._state

    # The thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if not self._backoff.over:
                    self._rest()
                    continue
                try:
                    self._one_connection()
                except StoreClosed:
                    break
                except CannotConnect as error:
                    self._waits(str(error))
                except Exception as error:
                    # Whatever it was, in paho or in here: a new client is made for the next connection (F22).
                    self.counts.rebuilt += 1
                    log.exception("the sync broke off unexpectedly; it connects anew")
                    self._waits(f"broke off unexpectedly: {type(error).__name__}")
                if not self._stopping.is_set():
                    self._backoff.failed()
        finally:
            self._say(Phase.STOPPED, "stopped")

    def _rest(self) -> None:
        """Until the next try; shorter where the clock has just come to be trusted, as TLS depends on it (F16)."""
        trusted = self._clock_trusted()
        while not (self._stopping.is_set() or self._backoff.over):
            self._run_orders()
            self._stopping.wait(min(1.0, max(0.0, self._backoff.until - self._clock())))
            if self._clock_trusted() and not trusted:
                self._backoff.until = self._clock()

    def _one_connection(self) -> None:
        self.counts.attempts += 1
        where = f"{self._settings.host}:{self._settings.port}"
        if self._state.phase is not Phase.WAITING:  # else the reason of the last failure says more
            self._say(Phase.CONNECTING, f"connecting to {where}")
        will = Will(self._topic(STATUS.topic), status_event(self._sender, "lost", self._wall()))
        connection = Connection(self._settings, self._sender.device_id, will, self._limits, self._dialect.version)
        self._begin_connection(connection)
        closed = False
        try:
            connection.open()
            self._serve(connection)
            self._leave(connection)
        except _Ended as ended:
            closed = ended.lost.closed
            if not self._greeted_us:
                self._dialect.lost_before_a_greeting(ended.lost)
            raise CannotConnect(f"{where}: {ended.lost.sentence}{self._hint(ended.lost)}") from ended
        finally:
            connection.close()
            self._begin_connection(None)
            self._courier.lost(closed=closed and not self._stopping.is_set())

    def _serve(self, connection: Connection) -> None:
        """Until the connection ends or the agent stops."""
        topics: dict[str, str] = {}

        def publish(name: str, event: bytes) -> int | None:
            if (topic := topics.get(name)) is None:
                topic = topics[name] = self._topic(name)
            return connection.publish(topic, event)

        greeting_until = self._clock() + self._limits.greeting_s
        while not self._stopping.is_set():
            for happening in connection.pump(self._wait_s(), self._bell):
                self._on(connection, happening)
            self._run_orders()
            if self._downlink is not None:
                self._downlink.work()
            now = self._clock()
            if not self._subscribed:
                if now > greeting_until:
                    raise CannotConnect(f"{self._settings.host}:{self._settings.port}: did not greet back")
                continue
            if (since := self._courier.flights.silent_since) is not None and now - since > self._limits.puback_s:
                raise CannotConnect(f"{self._settings.host}:{self._settings.port}: takes nothing any more")
            if self._posted.is_set():
                self._posted.clear()
                self._courier.look()
            self._courier.work(publish)
            self._say(*self._how_it_goes())

    def _leave(self, connection: Connection) -> None:
        """A clean goodbye: the Will is not spoken, the last status says offline."""
        if self._subscribed:
            last = connection.publish(
                self._topic(STATUS.topic), status_event(self._sender, "offline", self._wall()), retain=True
            )
            until = self._clock() + 2.0
            while last is not None and self._clock() < until:
                for happening in connection.pump(0.1, self._bell):
                    if isinstance(happening, Taken) and happening.number == last:
                        last = None
                    elif isinstance(happening, Lost):
                        return
        connection.goodbye()

    def _say_status(self, connection: Connection, state: Literal["online", "offline"]) -> int | None:
        status = status_event(self._sender, state, self._wall())
        return connection.publish(self._topic(STATUS.topic), status, retain=True)

    # What happens

    def _on(self, connection: Connection, happening: Happening) -> None:
        match happening:
            case Taken(number, code):  # first: there are by far the most of these
                if number == self._birth and fate(code) in {Fate.REFUSED, Fate.CONDEMNED}:
                    log.warning("the broker does not take the device's status: %s", sentence(code))
                self._courier.taken(number, code)
            case Greeted():
                self._greeted(connection, happening)
            case Subscribed(refused):
                self._begin(connection, refused)
            case Heard():
                if self._downlink is not None:
                    self._downlink.hear(happening.topic.removeprefix(self._topic("")), happening)
            case TurnedAway(code, said):
                self._dialect.turned_away(code)
                raise CannotConnect(f"{self._settings.host}:{self._settings.port}: {said}")
            case Lost():
                raise _Ended(happening)

    def _greeted(self, connection: Connection, greeted: Greeted) -> None:
        self.counts.connections += 1
        self._backoff.worked()
        self._greeted_us = True
        self._dialect.understood()
        self._courier.greeted(greeted)
        connection.subscribe([self._topic(name) for name in TOPICS])

    def _begin(self, connection: Connection, refused: int) -> None:
        """Everything stands: say that we are here, and send."""
        if refused:
            log.error("the broker refuses %d of our subscriptions: its access list must allow them", refused)
        log.info("connected to %s:%d (MQTT %s)", self._settings.host, self._settings.port, self._dialect.name)
        self._subscribed = True
        self._birth = connection.publish(
            self._topic(STATUS.topic), status_event(self._sender, "online", self._wall()), retain=True
        )
        self._courier.begin()

    # Small things

    def echo(self, done: Callable[[], None]) -> None:
        """Have ``done`` called on the thread, whatever the connection does; returns at once (F25)."""
        self._order(done)

    def _order(self, order: Callable[[], None]) -> None:
        """Have something done on the thread."""
        self._orders.put(order)
        self._bell.ring()

    def _run_orders(self) -> None:
        while True:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return
            order()

    def _hurry(self) -> None:
        self._courier.hurry()
        if self._connection is None:
            self._backoff.until = self._clock()

    def _wait_s(self) -> float:
        if not self._orders.empty():
            return 0.0
        now = self._clock()
        until = [now + LONGEST_WAIT_S]
        if self._downlink is not None:
            until.append(self._downlink.next_at())
        if self._subscribed:
            until.append(self._courier.next_at())
        return max(0.0, min(until) - now)

    def _hint(self, lost: Lost) -> str:
        if not self._greeted_us and lost.code is None and self._settings.ca is not None:
            return f"; {refusal_hint(self._settings)}"
        if self._greeted_us and lost.closed and self._backoff.failures >= SUSPICIOUS:
            return f"; if that goes on, perhaps another agent calls itself {self._sender.device_id} too"
        return ""

    def _how_it_goes(self) -> tuple[Phase, str]:
        if held := self._courier.flights.held_topics:
            return Phase.CONNECTED, f"connected; refused or heard by nobody: {', '.join(held)}"
        return Phase.CONNECTED, "connected"

    def _waits(self, why: str) -> None:
        if not self._clock_trusted():
            why += "; this device's clock is not believed yet, and certificates have dates: it is tried again"
        if (Phase.WAITING, why) != (self._state.phase, self._state.sentence):
            log.warning("no connection to the cloud: %s", why)
        self._say(Phase.WAITING, why)

    def _say(self, phase: Phase, said: str) -> None:
        flights = self._courier.flights
        now = SyncState(phase, said, self._dialect.name, flights.flying, flights.awaiting, flights.held_topics)
        if now != self._state:
            self._state = now

    def _topic(self, name: str) -> str:
        return topic_of(self._sender.clinic_id, self._sender.device_id, name)
