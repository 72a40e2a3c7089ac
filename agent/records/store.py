"""The store: every capture's row, its one ending, and the event of it, durable before anyone hears of it."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import Self

from agent.intake.capture import FileStamp
from agent.intake.reasons import Reason
from agent.messages.envelope import Sender
from agent.records import queries, scans, watches
from agent.records.audit import Actor, AuditAction, boot_id
from agent.records.audit_side import AuditSide
from agent.records.checkpoint import Checkpointer
from agent.records.cloud_side import CloudSide, Posting
from agent.records.connection import Connection
from agent.records.errors import (
    AlreadyTerminal,
    StoreClosed,
    StoreError,
    StoreFaulty,
    StoreFull,
    UnknownScan,
    VerdictRefused,
)
from agent.records.ground_truth import GroundTruthOutcome
from agent.records.keeping_side import KeepingSide
from agent.records.messages import scan_id_of
from agent.records.opening import StateLock, open_database
from agent.records.outbox import OutboxRow, OutboxStats
from agent.records.queries import AtStem, Counts, Unfinished, Unpublished
from agent.records.readers import Readers
from agent.records.results import RESULTS_DIR
from agent.records.scans import Claim, ClaimOutcome, Received
from agent.records.sealing import PLAIN, Seal
from agent.records.writer import Writer

__all__ = [
    "Actor",
    "AlreadyTerminal",
    "AuditAction",
    "Claim",
    "ClaimOutcome",
    "Clocks",
    "Counts",
    "GroundTruthOutcome",
    "OutboxRow",
    "OutboxStats",
    "Posting",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreFaulty",
    "StoreFull",
    "Unfinished",
    "UnknownScan",
    "Unpublished",
    "VerdictRefused",
]

CLOSE_TIMEOUT_S = 10.0


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _nobody_vouches() -> bool:
    return False


@dataclass(frozen=True)
class Clocks:
    """Where times come from, so that tests need not wait and a device in 1970 says so (F16).

    ``trusted`` tells whether the wall clock may be believed; nobody vouches for it unless told otherwise.
    """

    wall: Callable[[], datetime] = _now
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    trusted: Callable[[], bool] = _nobody_vouches


class Store(CloudSide, AuditSide, KeepingSide):
    """Owner of the database of one ``state_dir``. Its methods may be called from any thread.

    Those that write return a future, kept once the change is on the disk. It raises ``StoreFull`` where there was no
    room (nothing was written; try again), another ``StoreError`` where the change was refused. Cancelling does nothing.
    """

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        checkpointer: Checkpointer,
        lock: StateLock,
        sender: Sender,
        *,
        clocks: Clocks,
        results_folder: Path,
        seal: Seal = PLAIN,
    ) -> None:
        super().__init__()
        self._seal = seal
        self._writer = writer
        self._readers = readers
        self._checkpointer = checkpointer
        self._lock = lock
        self._sender = sender
        self._clocks = clocks
        self.results_folder = results_folder
        """Where the result files belong."""
        self._boot_id = boot_id()

    @classmethod
    def open(
        cls,
        state_dir: Path,
        device_id: str,
        quota_mb: int,
        *,
        clinic_id: str,
        software_version: str,
        clocks: Clocks | None = None,
        seal: Seal = PLAIN,
    ) -> Store:
        """Open or make ``state_dir/dermascan.db``, and keep every other agent out of ``state_dir``.

        A damaged database is moved to ``state_dir/quarantine`` and what can be read of it is carried over (F10).
        ``seal``: what patient fields are written and read with.

        Raises:
            ConfigError: fields are sealed with a key that ``seal`` does not have.
            StoreError: another agent runs here; the database is another device's or a newer version's; or the
                folder cannot be written. The text says what to do.
        """
        sender = Sender(clinic_id, device_id, software_version)
        lock = StateLock.take(state_dir)
        try:
            connection = open_database(state_dir, sender, quota_mb, seal)
        except BaseException:
            lock.release()
            raise
        checkpointer = Checkpointer(state_dir / "dermascan.db-wal")
        checkpointer.written()  # a log may be left from a crash
        writer = Writer(connection, checkpointer)
        results = state_dir / RESULTS_DIR
        readers = Readers(state_dir, seal)
        return cls(
            writer, readers, checkpointer, lock, sender, clocks=clocks or Clocks(), results_folder=results, seal=seal
        )

    def reading(self, *, anew: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        """A connection of one's own for a moment, which can change nothing: what is read there keeps no write waiting.

        To be given back soon, with all rows fetched. ``anew``: what the file holds, and nothing that was read before.
        Raises StoreError where the database cannot be read.
        """
        return self._readers.reading(anew=anew)

    def scan_id_of(self, identity: str) -> str:
        """The id that the scan of a content has on this device, or will have."""
        return scan_id_of(self._sender.device_id, identity)

    def claim(
        self, arrival_identity: str, image_sha256: str | None, path: Path, dermoscope_id: str, stamp: FileStamp
    ) -> Future[Claim]:
        """Make the content's scan durable in state ``received``, or find it; count the attempt; note the sighting."""
        received = Received(
            arrival_identity,
            image_sha256,
            path,
            dermoscope_id,
            stamp,
            self._time(),
            self._boot_id,
            self._clocks.monotonic_ns(),
            self._clocks.trusted(),
        )
        return self._writer.submit(partial(scans.claim, device_id=self._sender.device_id, received=received))

    def answer(
        self, scan_id: str, answer_json: str, backend: str, metadata: Mapping[str, Any] | None = None
    ) -> Future[None]:
        """Finish a scan with its answer (``Answer`` as JSON), and put its event in the outbox: one transaction.

        ``metadata`` (patient fields of sidecar or DICOM) is added to what is kept; it stays on the device.
        """
        finished_at, fields = self._time(), dict(metadata or {})
        return self._submit_posting(
            lambda db: scans.answer(
                db,
                self._sender,
                scan_id,
                answer_json=answer_json,
                backend=backend,
                metadata=fields,
                finished_at=finished_at,
                seal=self._seal,
            )
        )

    def reject(self, scan_id: str, reason: Reason, sentence: str) -> Future[None]:
        """Finish a scan as refused, and put its event in the outbox: one transaction."""
        finished_at = self._time()
        return self._submit_posting(
            lambda db: scans.reject(
                db, self._sender, scan_id, reason=reason.value, sentence=sentence, finished_at=finished_at
            )
        )

    def add_metadata(self, scan_id: str, metadata: Mapping[str, Any]) -> Future[bool]:
        """Add patient fields that came after the answer. True: the kept answer changed, so write its file again."""
        json.dumps(metadata)  # what is no JSON fails here, before it is queued
        return self._writer.submit(lambda db: scans.add_metadata(db, scan_id, metadata, self._seal))

    def files_written(self, scan_id: str) -> Future[None]:
        """Note that a finished scan's files lie durable in ``results/``."""
        return self._writer.submit(lambda db: scans.files_written(db, scan_id))

    def colour_watch(self, dermoscope_id: str) -> str | None:
        """What was last kept of a dermoscope's colour watch; None where nothing was."""
        return self._read(partial(watches.colour_watch, dermoscope_id=dermoscope_id))

    def keep_colour_watch(self, dermoscope_id: str, state: str, alert: Mapping[str, Any] | None = None) -> Future[None]:
        """Keep a dermoscope's colour watch and, in the same transaction, put an alert about it into the outbox."""
        at, event_id = self._time(), str(uuid.uuid4())

        def keep(db: Connection) -> None:
            watches.keep_colour_watch(db, dermoscope_id, state)
            if alert is not None:
                watches.alert(db, self._sender, event_id=event_id, subject=dermoscope_id, data=alert, at=at)

        return self._submit_posting(keep)

    def unfinished(self) -> list[Unfinished]:
        """The scans that were claimed and not finished, oldest first."""
        return self._read(queries.unfinished)

    def without_files(self) -> Iterator[Unpublished]:
        """Finished scans whose files are not confirmed, oldest first; read one by one, as answers are large."""
        seq = 0
        while (found := self._read(partial(queries.first_without_files, after_seq=seq))) is not None:
            seq, row = found
            yield row

    def places_of(self, scan_id: str) -> list[Path]:
        """Where a scan's picture was seen, under whatever names."""
        return self._read(partial(queries.places_of, scan_id=scan_id))

    def known(self, dermoscope_id: str) -> dict[bytes, FileStamp]:
        """Each path seen in a dermoscope's folder (``os.fsencode``) whose scan is finished, with its stamp then."""
        return self._read(partial(queries.known, dermoscope_id=dermoscope_id))

    def scans_at(self, stem: Path) -> list[AtStem]:
        """The scans whose capture was seen at ``stem`` plus a suffix, which a sidecar is about."""
        return self._read(partial(queries.at_stem, stem=stem))

    def result_json(self, scan_id: str) -> str | None:
        """What is kept as the scan's result, answer or refusal; None while there is none."""
        result = self._read(partial(queries.result_json, scan_id=scan_id))
        return None if result is None else self._seal.open_result(result, scan_id)

    def result_bytes(self, scan_id: str) -> bytes:
        """The scan's result, for its file: the patient's id in it is sealed where it is in the database.

        Raises UnknownScan where there is none.
        """
        result = self._read(partial(queries.result_json, scan_id=scan_id))
        if result is None:
            raise UnknownScan(f"scan {scan_id} has no result: it is not finished, or not in the database")
        return result.encode()

    def counts(self) -> Counts:
        """Scans and outbox rows by state."""
        return self._read(queries.counts)

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead log's file."""
        return self._checkpointer.wal_bytes()

    @property
    def blocked_checkpoints(self) -> int:
        """Checkpoints that a reader kept from finishing, since the start (F08)."""
        return self._checkpointer.blocked

    @property
    def commits(self) -> int:
        """Transactions written since the start."""
        return self._writer.commits

    def echo(self, done: Callable[[], object]) -> None:
        """Have ``done`` called on the store's thread; returns at once (F25)."""
        self._writer.submit(lambda _: done(), writes=False)

    @property
    def compacting(self) -> bool:
        """Whether the whole database is being written anew, which takes as long as it is large."""
        return self._writer.alone

    @property
    def busy_retries(self) -> int:
        """How often a transaction waited for a foreign lock, since the start (F07)."""
        return self._writer.busy_retries

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Finish what is queued, checkpoint, close, and let another agent in. A second call does nothing."""
        self._readers.close()  # the last connection to close takes the log away
        self._writer.close(timeout_s)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _time(self) -> str:
        return self._clocks.wall().astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _clock_trusted(self) -> bool:
        return self._clocks.trusted()
