"""What comes down on one connection: the broker keeps each message until it is dealt with, durably."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from agent.messages.catalogue import ACK, COMMAND, GROUND_TRUTH
from agent.messages.down import Ack
from agent.messages.envelope import MalformedMessage, parse
from agent.records.errors import StoreClosed
from agent.sync.connection import Connection
from agent.sync.courier import STORE_PAUSE_S, Courier, Order
from agent.sync.happenings import Heard
from agent.sync.inbox import Inbox
from agent.sync.state import SyncCounts

log = logging.getLogger(__name__)

TOPICS: Final = (ACK.topic, GROUND_TRUTH.topic, COMMAND.topic)
"""The last parts of what is subscribed to."""


class Downlink:
    """Use from the sync's thread; made anew for each connection."""

    def __init__(
        self,
        connection: Connection,
        courier: Courier,
        inbox: Inbox,
        counts: SyncCounts,
        *,
        order: Order,
        sync_now: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._courier, self._inbox, self._counts = connection, courier, inbox, counts
        self._order, self._sync_now, self._clock = order, sync_now, clock
        self._later: list[tuple[float, str, Heard]] = []
        self._over = False

    def hear(self, name: str, heard: Heard) -> None:
        """Deal with a message; ``name`` is its topic's last part."""
        self._counts.heard += 1
        self._deal(name, heard)

    def work(self) -> None:
        """Try again what could not be kept."""
        now = self._clock()
        due = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for _, name, heard in due:
            self._deal(name, heard)

    def next_at(self) -> float:
        """When there is something to do although nothing happens, on the monotonic clock."""
        return min((at for at, _, _ in self._later), default=float("inf"))

    def end(self) -> None:
        """The connection is gone; what was not acknowledged on it comes again on the next."""
        self._over = True
        self._later = []

    def _deal(self, name: str, heard: Heard) -> None:
        done: Future[Any] | None = None
        try:
            if name == ACK.topic:
                acknowledged = parse(heard.payload, (ACK,)).data
                if isinstance(acknowledged, Ack):
                    done = self._courier.acknowledge(acknowledged.ids)
            else:
                done = self._inbox.take(name, heard.payload, self._sync_now)
        except MalformedMessage as error:
            self._counts.malformed += 1
            log.warning("a message on %s was not understood: %.500s", name, error)
        except StoreClosed:
            raise
        except Exception:
            log.exception("a message on %s could not be dealt with and is passed over", name)  # or it comes for ever
        if done is None:
            self._connection.acknowledge(heard)
        else:
            done.add_done_callback(lambda future: self._order(partial(self._dealt_with, name, heard, future)))

    def _dealt_with(self, name: str, heard: Heard, done: Future[Any]) -> None:
        if self._over:
            return
        if (error := done.exception()) is None:
            self._connection.acknowledge(heard)
        else:
            log.warning("what came on %s could not be kept, and is tried again: %s", name, error)
            self._later.append((self._clock() + STORE_PAUSE_S, name, heard))
