"""The SQL of a capture's way through the store. Each function is one step of one transaction that its caller owns.

They need no more than `agent.records.connection.Connection`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from agent.answer.scan import ScanState
from agent.intake.capture import FileStamp
from agent.messages.catalogue import RESULT
from agent.messages.envelope import Sender
from agent.records import outbox
from agent.records.connection import Connection
from agent.records.errors import AlreadyTerminal, UnknownScan
from agent.records.messages import (
    answered_data,
    event_id_of,
    rejected_data,
    result_event,
    scan_id_of,
)
from agent.records.sealing import PLAIN, Seal


class ClaimOutcome(str, Enum):
    """What the store knew of a content when it was claimed."""

    NEW = "new"
    """Never seen: analyse it."""
    RESUMED = "resumed"
    """Claimed before and not finished (a crash, or a retry): analyse it."""
    KNOWN = "known"
    """Answered or rejected already: nothing to do; only the sighting was recorded."""


@dataclass(frozen=True)
class Claim:
    """A scan as it stands after its claim. ``attempts`` counts the analyses begun, this one included."""

    scan_id: str
    outcome: ClaimOutcome
    attempts: int


@dataclass(frozen=True)
class Received:
    """A content that arrived: what it is, where it lies, and the clocks at that moment."""

    identity: str
    image_sha256: str | None
    path: Path
    dermoscope_id: str
    stamp: FileStamp
    at: str
    boot_id: str
    monotonic_ns: int
    clock_trusted: bool


def display(path_bytes: bytes) -> str:
    """A path as text for people: bytes that are no UTF-8 are shown as backslash, x and two digits."""
    return path_bytes.decode("utf-8", "backslashreplace")


def claim(db: Connection, device_id: str, received: Received) -> Claim:
    """Make or find the scan of a content, count the attempt, and note where the content was seen."""
    path_bytes = os.fsencode(received.path)
    row = db.execute(
        "SELECT scan_id, state, attempts, kept FROM scans WHERE identity = ?", (received.identity,)
    ).fetchone()
    if row is None:
        done = Claim(scan_id_of(device_id, received.identity), ClaimOutcome.NEW, 1)
        db.execute(
            "INSERT INTO scans (scan_id, identity, image_sha256, path, path_bytes, dermoscope_id, state, attempts,"
            " received_at, boot_id, received_monotonic_ns, clock_trusted)"
            " VALUES (?, ?, ?, ?, ?, ?, 'received', 1, ?, ?, ?, ?)",
            (
                done.scan_id,
                received.identity,
                received.image_sha256,
                display(path_bytes),
                path_bytes,
                received.dermoscope_id,
                received.at,
                received.boot_id,
                received.monotonic_ns,
                int(received.clock_trusted),
            ),
        )
    elif row[1] == ScanState.RECEIVED.value:
        done = Claim(row[0], ClaimOutcome.RESUMED, row[2] + 1)
        # The newest place, since the older one may be gone by the next start.
        db.execute(
            "UPDATE scans SET attempts = attempts + 1, path = ?, path_bytes = ?, dermoscope_id = ? WHERE scan_id = ?",
            (display(path_bytes), path_bytes, received.dermoscope_id, done.scan_id),
        )
    else:
        done = Claim(row[0], ClaimOutcome.KNOWN, row[2])
        if row[3] == "erased":
            return done  # its file's name may name the patient: it is not written down again
    stamp = received.stamp
    db.execute(
        "INSERT INTO sightings (dermoscope_id, path_bytes, device, inode, size, mtime_ns, ctime_ns, scan_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (dermoscope_id, path_bytes) DO UPDATE SET"
        " device = excluded.device, inode = excluded.inode, size = excluded.size, mtime_ns = excluded.mtime_ns,"
        " ctime_ns = excluded.ctime_ns, scan_id = excluded.scan_id",
        (
            received.dermoscope_id,
            path_bytes,
            _signed(stamp.device),
            _signed(stamp.inode),
            stamp.size,
            stamp.mtime_ns,
            stamp.ctime_ns,
            done.scan_id,
        ),
    )
    return done


def answer(
    db: Connection,
    sender: Sender,
    scan_id: str,
    *,
    answer_json: str,
    backend: str,
    metadata: Mapping[str, Any],
    finished_at: str,
    seal: Seal = PLAIN,
) -> None:
    """Finish a scan with its answer, and put its event in the outbox. Raises as ``_open_scan`` does."""
    content = json.loads(answer_json)
    seq, _, _, kept, _, _ = _open_scan(db, scan_id)
    fields = {**seal.open_metadata(kept, scan_id), **metadata}
    patient_index = seal.index(fields.get("patient_id") or content.get("patient_id"))
    db.execute(
        "UPDATE scans SET state = 'answered', backend = ?, metadata = ?, result = ?, finished_at = ?, sealed_by = ?,"
        " patient_index = ? WHERE scan_id = ?",
        (
            backend,
            seal.metadata(fields, scan_id),
            seal.result(answer_json, scan_id),
            finished_at,
            seal.key_id,
            patient_index,
            scan_id,
        ),
    )
    _post(db, scan_id, result_event(sender, scan_id, seq, finished_at, answered_data(content)), finished_at)


def reject(db: Connection, sender: Sender, scan_id: str, *, reason: str, sentence: str, finished_at: str) -> None:
    """Finish a scan as refused, and put its event in the outbox. Raises as ``_open_scan`` does."""
    seq, image_sha256, dermoscope_id, _, received_at, clock_trusted = _open_scan(db, scan_id)
    data = rejected_data(
        sender,
        scan_id=scan_id,
        image_sha256=image_sha256,
        dermoscope_id=dermoscope_id,
        reason=reason,
        sentence=sentence,
        received_at=received_at,
        finished_at=finished_at,
        clock_trusted=bool(clock_trusted),
    )
    db.execute(
        "UPDATE scans SET state = 'rejected', reason = ?, sentence = ?, result = ?, finished_at = ? WHERE scan_id = ?",
        (reason, sentence, json.dumps(data, ensure_ascii=False), finished_at, scan_id),
    )
    _post(db, scan_id, result_event(sender, scan_id, seq, finished_at, data), finished_at)


def add_metadata(db: Connection, scan_id: str, metadata: Mapping[str, Any], seal: Seal = PLAIN) -> bool:
    """Add patient fields that came late. True where the kept answer changed: its file is to be written again.

    A scan whose patient was erased or given up gets none again, however often its picture comes.
    """
    row = db.execute("SELECT metadata, state, result, kept FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()
    if row is None:
        raise UnknownScan(f"scan {scan_id} is not in the database")
    if row[3] in {"answer_only", "erased"} or not metadata:
        return False
    fields = {**seal.open_metadata(row[0], scan_id), **metadata}
    db.execute(
        "UPDATE scans SET metadata = ?, sealed_by = ?, patient_index = coalesce(?, patient_index) WHERE scan_id = ?",
        (seal.metadata(fields, scan_id), seal.key_id, seal.index(fields.get("patient_id")), scan_id),
    )
    patient_id = metadata.get("patient_id")
    if row[1] != ScanState.ANSWERED.value or patient_id is None:
        return False
    content = json.loads(seal.open_result(row[2], scan_id))
    if content.get("patient_id") == patient_id:
        return False
    content["patient_id"] = patient_id
    db.execute(
        "UPDATE scans SET result = ?, files_written = 0 WHERE scan_id = ?",
        (seal.result(json.dumps(content, ensure_ascii=False), scan_id), scan_id),
    )
    return True


def files_written(db: Connection, scan_id: str) -> None:
    """Note that the result files of a finished scan lie durable in ``results/``."""
    changed = db.execute(
        "UPDATE scans SET files_written = 1 WHERE scan_id = ? AND state <> 'received' RETURNING seq", (scan_id,)
    ).fetchall()
    if not changed:
        raise UnknownScan(f"scan {scan_id} is not in the database, or not finished: it has no result files")


def post_missing_events(db: Connection, sender: Sender) -> int:
    """Build again the events of finished scans that have none (after a salvage: F10); returns how many."""
    rows = db.execute(
        "SELECT seq, scan_id, state, result, finished_at FROM scans WHERE state <> 'received'"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.scan_id = scans.scan_id AND type = ?"
        " AND (state = 'acknowledged' OR seq IN (SELECT seq FROM outbox_events))) ORDER BY seq",
        (RESULT.type,),
    ).fetchall()
    for seq, scan_id, state, result, finished_at in rows:
        content = json.loads(result)
        data = answered_data(content) if state == ScanState.ANSWERED.value else content
        _post(db, scan_id, result_event(sender, scan_id, seq, finished_at, data), finished_at)
    return len(rows)


def _open_scan(db: Connection, scan_id: str) -> Any:
    """The scan's (seq, image_sha256, dermoscope_id, metadata, received_at, clock_trusted), while it may be finished.

    Raises:
        UnknownScan: it was never claimed.
        AlreadyTerminal: it is answered or rejected.
    """
    row = db.execute(
        "SELECT seq, image_sha256, dermoscope_id, metadata, received_at, clock_trusted, state"
        " FROM scans WHERE scan_id = ?",
        (scan_id,),
    ).fetchone()
    if row is None:
        raise UnknownScan(f"scan {scan_id} is not in the database: claim it before finishing it")
    if row[6] != ScanState.RECEIVED.value:
        raise AlreadyTerminal(f"scan {scan_id} is {row[6]} already; its second ending was not recorded")
    return row[:6]


def _post(db: Connection, scan_id: str, event: bytes, created_at: str) -> None:
    outbox.enqueue(
        db,
        event_id=event_id_of(scan_id, RESULT.type),
        scan_id=scan_id,
        event_type=RESULT.type,
        topic=RESULT.topic,
        event=event,
        created_at=created_at,
    )


def _signed(number: int) -> int:
    """An unsigned 64-bit device or inode number as SQLite's signed one."""
    return number - (1 << 64) if number >= 1 << 63 else number
