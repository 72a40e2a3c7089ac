"""What the cloud has heard, once each, durable: an event is acknowledged only after its commit here (F18, F19).

Events are told apart by their device and id, as CloudEvents has it; a device cannot use up another's ids. Of each
device's topic the heard numbers are kept, so that a gap is seen. What cannot be read is kept aside with its reason.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from agent.messages.envelope import MAX_BYTES
from cloud.ranges import add
from cloud.reading import Device, Heard, read

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x4453434C
"""``DSCL`` in the file's header."""
MAX_MALFORMED: Final = 1000
"""Different unreadable messages kept of one device; more are only counted."""
_BUSY_S: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, clinic_id TEXT NOT NULL, device_id TEXT NOT NULL, topic TEXT NOT NULL,
    event_id TEXT NOT NULL, type TEXT NOT NULL, subject TEXT, sequence INTEGER, time TEXT, heard_at TEXT NOT NULL,
    event TEXT NOT NULL, UNIQUE (clinic_id, device_id, event_id)
) STRICT;
CREATE INDEX events_subject ON events (subject);
CREATE TABLE streams (
    clinic_id TEXT NOT NULL, device_id TEXT NOT NULL, topic TEXT NOT NULL, heard INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0, reused INTEGER NOT NULL DEFAULT 0, malformed INTEGER NOT NULL DEFAULT 0,
    last_heard_at TEXT NOT NULL, PRIMARY KEY (clinic_id, device_id, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE numbers (
    clinic_id TEXT NOT NULL, device_id TEXT NOT NULL, topic TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (clinic_id, device_id, topic, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE malformed (
    seq INTEGER PRIMARY KEY, clinic_id TEXT NOT NULL, device_id TEXT NOT NULL, topic TEXT NOT NULL,
    sha256 TEXT NOT NULL, event_id TEXT, reason TEXT NOT NULL, payload BLOB NOT NULL, heard_at TEXT NOT NULL,
    UNIQUE (clinic_id, device_id, topic, sha256)
) STRICT;
CREATE TABLE devices (
    clinic_id TEXT NOT NULL, device_id TEXT NOT NULL, state TEXT NOT NULL, software_version TEXT NOT NULL, since TEXT,
    heard_at TEXT NOT NULL, PRIMARY KEY (clinic_id, device_id)
) STRICT, WITHOUT ROWID;
"""


class LedgerError(Exception):
    """The ledger's file cannot be used; the sentence says why and what to do."""


@dataclass(frozen=True)
class Committed:
    """What became of a batch. ``acknowledge`` may be told to the devices: all of it is durable."""

    new: int
    duplicates: int
    malformed: int
    acknowledge: tuple[tuple[Device, str], ...]


@dataclass
class _Count:
    heard: int = 0
    duplicates: int = 0
    malformed: int = 0


class Ledger:
    """Owns the connection that writes; for one thread. Several processes of one machine may share the file."""

    def __init__(self, path: Path) -> None:
        """Open or make the ledger at ``path``; raises LedgerError."""
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                # An acknowledgement is a promise: the device forgets the row.
                self._db.execute("PRAGMA synchronous = FULL")
                with self._transaction():
                    self._prepare()
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise LedgerError(f"{path}: cannot be used as the ledger ({error}); name another file") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def commit(self, batch: Sequence[Heard]) -> Committed:
        """Make a batch durable, in one transaction.

        Raises:
            sqlite3.OperationalError: nothing of it is durable (disk full, locked too long); try again.
        """
        counts: defaultdict[tuple[Device, str], _Count] = defaultdict(_Count)
        numbers: defaultdict[tuple[Device, str], list[int]] = defaultdict(list)
        acknowledge: list[tuple[Device, str]] = []
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self._transaction():
            for heard in batch:
                count = counts[heard.device, heard.topic]
                if heard.event is None:
                    count.malformed += 1
                    if self._keep_aside(heard, now) and heard.event_id is not None:
                        acknowledge.append((heard.device, heard.event_id))
                    continue
                if heard.status is not None:
                    self._status(heard, now)
                    continue
                acknowledge.append((heard.device, heard.event.id))
                if self._insert(heard, now):
                    count.heard += 1
                    if heard.event.sequence is not None:
                        numbers[heard.device, heard.topic].append(heard.event.sequence)
                else:
                    count.duplicates += 1
            for (device, topic), count in counts.items():
                reused = self._number(device, topic, numbers[device, topic])
                self._count(device, topic, count, reused, now)
        return Committed(
            new=sum(count.heard for count in counts.values()),
            duplicates=sum(count.duplicates for count in counts.values()),
            malformed=sum(count.malformed for count in counts.values()),
            acknowledge=tuple(acknowledge),
        )

    def reread(self) -> int:
        """Read what was kept aside again, which a newer cloud may understand; returns how many became events."""
        rows = self._db.execute("SELECT seq, clinic_id, device_id, topic, payload FROM malformed").fetchall()
        understood = 0
        for seq, clinic_id, device_id, topic, payload in rows:
            heard = read(f"dermascan/v1/{clinic_id}/{device_id}/{topic}", bytes(payload))
            if heard.event is not None:
                if heard.status is None:  # an old status says nothing any more
                    self.commit([heard])  # twice is no harm, if the next line is not reached
                self._db.execute("DELETE FROM malformed WHERE seq = ?", (seq,))
                understood += 1
        return understood

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _prepare(self) -> None:
        application, version = (
            self._db.execute(f"PRAGMA {key}").fetchone()[0] for key in ("application_id", "user_version")
        )
        if (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
            return
        if application or version or self._db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            raise LedgerError(f"{self.path}: is no ledger of this version; name another file")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _insert(self, heard: Heard, now: str) -> bool:
        event = heard.event
        assert event is not None  # noqa: S101 - for the type checker
        done = self._db.execute(
            "INSERT INTO events (clinic_id, device_id, topic, event_id, type, subject, sequence, time, heard_at, event)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                *(heard.device.clinic_id, heard.device.device_id, heard.topic, event.id, event.message.type),
                *(event.subject, event.sequence, event.time, now, heard.payload.decode()),
            ),
        )
        return done.rowcount == 1

    def _keep_aside(self, heard: Heard, now: str) -> bool:
        """Whether the message is kept, now or from before."""
        sha256 = hashlib.sha256(heard.payload).hexdigest()
        whose = (heard.device.clinic_id, heard.device.device_id)
        there = "SELECT 1 FROM malformed WHERE clinic_id = ? AND device_id = ? AND topic = ? AND sha256 = ?"
        if self._db.execute(there, (*whose, heard.topic, sha256)).fetchone():
            return True
        kept = "SELECT count(*) FROM malformed WHERE clinic_id = ? AND device_id = ?"
        if len(heard.payload) > MAX_BYTES or self._db.execute(kept, whose).fetchone()[0] >= MAX_MALFORMED:
            return False
        self._db.execute(
            "INSERT INTO malformed (clinic_id, device_id, topic, sha256, event_id, reason, payload, heard_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*whose, heard.topic, sha256, heard.event_id, heard.reason, heard.payload, now),
        )
        return True

    def _status(self, heard: Heard, now: str) -> None:
        """What came last holds: a broker keeps the order of one topic."""
        status = heard.status
        assert status is not None  # noqa: S101 - for the type checker
        since = None if status.since is None else status.since.isoformat()
        self._db.execute(
            "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state,"
            " software_version = excluded.software_version, since = excluded.since, heard_at = excluded.heard_at",
            (heard.device.clinic_id, heard.device.device_id, status.state, status.software_version, since, now),
        )

    def _number(self, device: Device, topic: str, numbers: list[int]) -> int:
        """Enter the numbers of new events; returns how many of them other events had before."""
        if not numbers:
            return 0
        key = (device.clinic_id, device.device_id, topic)
        where = "WHERE clinic_id = ? AND device_id = ? AND topic = ? AND first <= ? AND last >= ?"
        near = (*key, max(numbers) + 1, min(numbers) - 1)
        old = self._db.execute(f"SELECT first, last FROM numbers {where}", near).fetchall()  # noqa: S608
        new, reused = add(old, numbers)
        self._db.execute(f"DELETE FROM numbers {where}", near)  # noqa: S608
        self._db.executemany("INSERT INTO numbers VALUES (?, ?, ?, ?, ?)", [(*key, *span) for span in new])
        return reused

    def _count(self, device: Device, topic: str, count: _Count, reused: int, now: str) -> None:
        if count == _Count():  # a status
            return
        self._db.execute(
            "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " heard = heard + excluded.heard, duplicates = duplicates + excluded.duplicates,"
            " reused = reused + excluded.reused,"
            " malformed = malformed + excluded.malformed, last_heard_at = excluded.last_heard_at",
            (device.clinic_id, device.device_id, topic, count.heard, count.duplicates, reused, count.malformed, now),
        )
