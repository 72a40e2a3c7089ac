"""Hears the devices: commits what came to the ledger, then lets the broker and the devices forget it.

The order is the whole point (F18): first the commit, then the PUBACK and the acknowledgement. A crash in between makes
duplicates, which the ledger knows by their ids (F19), and never a loss.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from cloud.acks import AckBatches, AckMessage
from cloud.ledger import Committed, Ledger
from cloud.mqtt import BrokerSettings, Delivery, Link
from cloud.reading import Device, Heard, read

log = logging.getLogger(__name__)

MAX_BATCH: Final = 500
"""Messages in one transaction."""
_LOOK_S: Final = 0.5
_RETRY_S: Final = 1.0


@dataclass
class Counters:
    """Since the start."""

    new: int = 0
    duplicates: int = 0
    malformed: int = 0
    commits: int = 0
    failed_commits: int = 0
    acks: int = 0
    """Ids told to devices."""


class Consumer:
    """Owns the ledger's writing side, on one thread, and the connection that feeds it."""

    def __init__(self, ledger: Ledger, settings: BrokerSettings) -> None:
        self._ledger = ledger
        self.link = Link(settings)
        self.counters = Counters()
        self._acks = AckBatches()
        self._to_tell: deque[AckMessage] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="cloud-ledger", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        if understood := self._ledger.reread():
            log.info("%d messages that had been kept aside can be read now", understood)
        self._thread.start()
        self.link.start()

    def stop(self) -> None:
        """Commit and acknowledge what is here, then say goodbye."""
        self._stopping.set()
        with suppress(queue.Full):
            self.link.arrivals.put_nowait(None)
        self._thread.join(timeout=20)
        self.link.stop()

    @property
    def state(self) -> dict[str, Any]:
        """For a status page."""
        link = self.link
        return {
            "connected": link.subscribed.is_set(),
            "trouble": link.trouble,
            "connections": link.connections,
            **asdict(self.counters),
        }

    def _work(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._handle(batch)
            elif self._stopping.is_set():
                break
            self._tell()
        self._tell(everything=True)

    def _take(self) -> list[Delivery]:
        """What is there, at most a batch; waits for the first, but not longer than acknowledgements may."""
        wait = self._acks.wait_s()
        try:
            first = self.link.arrivals.get(timeout=_LOOK_S if wait is None or not self.link.has_room else wait)
        except queue.Empty:
            return []
        found = [first]
        # Nothing is gained by waiting for more: brokers let only a few messages be on their way (mosquitto: 20).
        with suppress(queue.Empty):
            while len(found) < MAX_BATCH:
                found.append(self.link.arrivals.get_nowait())
        return [delivery for delivery in found if delivery is not None]

    def _handle(self, batch: Sequence[Delivery]) -> None:
        committed = self._commit([_read(delivery) for delivery in batch])
        if committed is None:
            return  # stopped before it could be made durable: the broker and the devices still have it
        counters = self.counters
        counters.new += committed.new
        counters.duplicates += committed.duplicates
        counters.malformed += committed.malformed
        self._acks.add(committed.acknowledge)
        for delivery in batch:
            self.link.done(delivery)

    def _commit(self, batch: Sequence[Heard]) -> Committed | None:
        """Make a batch durable, however long that takes: a full disk holds the acknowledgements, nothing else."""
        while True:
            try:
                committed = self._ledger.commit(batch)
            except sqlite3.OperationalError as error:
                self.counters.failed_commits += 1
                log.error("the ledger cannot be written (%s); nothing is acknowledged until it can", error)  # noqa: TRY400
                if self._stopping.wait(_RETRY_S):
                    return None
            except (sqlite3.Error, ValueError, OverflowError):
                # One of them cannot be stored. It must hold up none of the others (F21).
                log.exception("a batch of %d cannot be stored as it is", len(batch))
                if len(batch) == 1:
                    aside = replace(batch[0], event=None, event_id=None, reason="it cannot be stored")
                    if batch[0].event is None:
                        return Committed(0, 0, 1, ())  # not even aside: counted, and not acknowledged
                    batch = [aside]
                    continue
                parts = [self._commit([heard]) for heard in batch]
                return None if None in parts else _together([part for part in parts if part is not None])
            else:
                self.counters.commits += 1
                return committed

    def _tell(self, *, everything: bool = False) -> None:
        """Publish the acknowledgements that are due; without a connection they wait, and no more events come in."""
        if not self.link.has_room:
            return
        self._to_tell.extend(self._acks.due(everything=everything))
        while self._to_tell and self.link.has_room:
            message = self._to_tell.popleft()
            self.link.publish(message)
            self.counters.acks += message.ids


def _read(delivery: Delivery) -> Heard:
    payload = bytes(delivery.message.payload)
    try:
        topic = delivery.message.topic
    except UnicodeDecodeError:
        return Heard(Device("", ""), "", payload, None, reason="the topic is no UTF-8")
    return read(topic, payload)


def _together(parts: Sequence[Committed]) -> Committed:
    return Committed(
        new=sum(part.new for part in parts),
        duplicates=sum(part.duplicates for part in parts),
        malformed=sum(part.malformed for part in parts),
        acknowledge=tuple(pair for part in parts for pair in part.acknowledge),
    )
