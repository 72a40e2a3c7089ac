"""The SQL of keeping less: what a scan loses and what never goes (an unsent event, a verdict, the audit, a capture).

A scan's row outlives all of it, since it is how its picture is known when it comes again (F04). What is kept of it
goes one way: ``whole``, ``without_pictures``, ``answer_only``, ``erased``. Files are removed after the commit, from a
list that is part of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from agent.records.connection import Connection
from agent.records.results import RESULTS_DIR
from agent.records.space import UPLOADS_DIR


class Kept(str, Enum):
    """How much of a finished scan there still is."""

    WHOLE = "whole"
    WITHOUT_PICTURES = "without_pictures"
    """No overlay, no heat map, and of a picture that came by the API no picture."""
    ANSWER_ONLY = "answer_only"
    """Nor anything that names the patient; the answer, verdicts and the audit."""
    ERASED = "erased"
    """Nor the picture's name, nor what was written about a verdict: the patient asked for it."""


_ENDLESS: Final = (1 << 63) - 1
_RANK: Final = {kept: rank for rank, kept in enumerate(Kept)}
# What ``kept`` may be is named so that ``scans_by_end`` serves: to read a row's last fields is to read all its answer.
_YOUNG_FIRST_FIRST: Final = (
    "SELECT seq FROM scans WHERE kept IN ('whole', 'without_pictures', 'answer_only', 'erased')"
    " AND finished_at >= ? AND finished_at <= ? ORDER BY +seq"
)
_OLD_LAST_FIRST: Final = (
    "SELECT seq FROM scans WHERE kept IN ('whole', 'without_pictures', 'answer_only', 'erased')"
    " AND finished_at < ? AND seq < ? ORDER BY +seq DESC"
)
_OLD: Final = (
    "SELECT scan_id FROM scans WHERE kept = ? AND finished_at > ? AND finished_at < ? AND seq <= ? AND NOT EXISTS"
    " (SELECT 1 FROM outbox WHERE outbox.scan_id = scans.scan_id AND outbox.state <> 'acknowledged')"
    " ORDER BY finished_at LIMIT ?"
)


@dataclass(frozen=True)
class Slimmed:
    """Events that lost their bytes."""

    events: int
    bytes: int


def slim_events(db: Connection, limit: int, before: str | None = None) -> Slimmed:
    """Drop the bytes of events that the cloud has committed, the oldest first; their rows stay, so they are known.

    Args:
        db: in a transaction.
        limit: how many at most.
        before: only those written before this time.
    """
    rows = db.execute(
        "SELECT seq, length(event) FROM outbox_events CROSS JOIN outbox USING (seq)"
        " WHERE state = 'acknowledged' AND created_at < ? ORDER BY seq LIMIT ?",
        (before or "\U0010ffff", limit),
    ).fetchall()
    listed = json.dumps([row[0] for row in rows])
    db.execute("DELETE FROM outbox_events WHERE seq IN (SELECT value FROM json_each(?))", (listed,))
    return Slimmed(len(rows), sum(row[1] for row in rows))


def forget_events_of_erased(db: Connection) -> None:
    """Drop what a salvage found in unused pages of events that had been let go with their patient (F10)."""
    db.execute(
        "DELETE FROM outbox_events WHERE seq IN (SELECT outbox.seq FROM outbox JOIN scans USING (scan_id)"
        " WHERE kept = 'erased' AND outbox.state = 'acknowledged')",
        (),
    )


def old_until(db: Connection, before: str, now: str) -> int:
    """The last seq of the scans that ended before a time for sure, whatever the clock showed then (F16); 0: none.

    Scans come in the order of their seq, and so the neighbours tell: what came after a scan that is young is young,
    even where the clock stood in 1970 then; and what came while the clock could not be right is no older than the next
    scan of which the time can be believed.

    Args:
        db: to read from.
        before: the time, like ``now`` RFC 3339 in UTC.
        now: what lies beyond it was written by a wrong clock.
    """
    young = _ENDLESS
    for (seq,) in db.execute(_YOUNG_FIRST_FIRST, (before, now)):
        if _received(db, seq)[0] >= before:  # and did not only wait long for its end
            young = seq
            break
    for (seq,) in db.execute(_OLD_LAST_FIRST, (before, young)):
        received_at, trusted = _received(db, seq)
        if trusted and received_at < before:
            return int(seq)
    return 0


def _received(db: Connection, seq: int) -> tuple[str, bool]:
    """When a scan came, and whether the clock could be right then."""
    received_at, trusted = db.execute("SELECT received_at, clock_trusted FROM scans WHERE seq = ?", (seq,)).fetchone()
    return str(received_at), bool(trusted)


def finished_before(db: Connection, before: str, now: str, until: int, limit: int, *, down_to: Kept) -> list[str]:
    """The oldest scans that ended before a time and are kept better than ``down_to``; none with an unsent event.

    Args:
        db: to read from.
        before: the time.
        now: a scan that seems to have ended after it is as old as its neighbours.
        until: from `old_until`.
        limit: how many at most.
        down_to: how much is to be left of them.
    """
    found: list[str] = []
    for kept in Kept:
        for after, till in (("", before), (now, "\U0010ffff")):
            if _RANK[kept] < _RANK[down_to] and len(found) < limit:
                rows = db.execute(_OLD, (kept.value, after, till, until, limit - len(found))).fetchall()
                found += [str(row[0]) for row in rows]
    return found


def reduce(db: Connection, state_dir: Path, scan_ids: Sequence[str], to: Kept) -> list[str]:
    """Keep less of finished scans; returns those whose result file is to be written again.

    Args:
        db: in a transaction.
        state_dir: for which of the pictures are ours to remove.
        scan_ids: what is not finished, or kept no better, is passed over.
        to: how much is left.
    """
    rewrite = []
    for scan_id in scan_ids:
        row = db.execute(
            "SELECT kept, state, result, path_bytes FROM scans WHERE scan_id = ? AND state <> 'received'", (scan_id,)
        ).fetchone()
        if row is None or _RANK[Kept(row[0])] >= _RANK[to]:
            continue
        _list_files(db, state_dir, scan_id, bytes(row[3]))
        result = _reduced(row[2], to)
        db.execute(
            "UPDATE scans SET kept = ?, result = ?, files_written = CASE WHEN result IS ? THEN files_written ELSE 0 END"
            " WHERE scan_id = ?",
            (to.value, result, result, scan_id),
        )
        if to is not Kept.WITHOUT_PICTURES:
            db.execute(
                "UPDATE scans SET metadata = '{}', sealed_by = NULL, patient_index = NULL WHERE scan_id = ?", (scan_id,)
            )
        if to is Kept.ERASED:
            _forget_words(db, scan_id)
        if result != row[2]:
            rewrite.append(scan_id)
    return rewrite


def removals(db: Connection, limit: int) -> list[str]:
    """Files that are to go, as paths below ``state_dir``."""
    return [str(row[0]) for row in db.execute("SELECT path FROM removals ORDER BY path LIMIT ?", (limit,)).fetchall()]


def removed(db: Connection, paths: Sequence[str]) -> None:
    """Note that files are gone."""
    db.execute("DELETE FROM removals WHERE path IN (SELECT value FROM json_each(?))", (json.dumps(list(paths)),))


def unused_bytes(db: Connection) -> int:
    """How much of the database's file is free for what is written next."""
    pages = db.execute("PRAGMA freelist_count", ()).fetchone()[0]
    return int(pages) * int(db.execute("PRAGMA page_size", ()).fetchone()[0])


def noted(db: Connection, name: str) -> Any:
    """What was noted under a name; None where nothing was."""
    row = db.execute("SELECT state FROM keeping WHERE name = ?", (name,)).fetchone()
    return None if row is None else json.loads(row[0])


def note(db: Connection, name: str, state: object, at: str) -> None:
    """Note something under a name."""
    db.execute(
        "INSERT INTO keeping (name, state, changed_at) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " state = excluded.state, changed_at = excluded.changed_at",
        (name, json.dumps(state), at),
    )


def _reduced(result: str | None, to: Kept) -> str | None:
    """A result without its heat map and, from ``ANSWER_ONLY`` on, without the patient's id."""
    if result is None:
        return None
    content = json.loads(result)
    changed = False
    for name, empty in (("attention_map", ""), ("patient_id", None)):
        if content.get(name) and (name != "patient_id" or to is not Kept.WITHOUT_PICTURES):
            content[name] = empty
            changed = True
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) if changed else result


def _list_files(db: Connection, state_dir: Path, scan_id: str, path_bytes: bytes) -> None:
    files = [f"{RESULTS_DIR}/{scan_id}.png"]
    uploads = os.fsencode(state_dir / UPLOADS_DIR) + b"/"
    if path_bytes.startswith(uploads):
        upload = Path(os.fsdecode(path_bytes[len(uploads) :]))
        files += [f"{UPLOADS_DIR}/{upload}", f"{UPLOADS_DIR}/{upload.with_suffix('.json')}"]
    for file in files:
        db.execute("INSERT OR IGNORE INTO removals (path) VALUES (?)", (file,))


def _forget_words(db: Connection, scan_id: str) -> None:
    """What people wrote: the picture's name, the notes of verdicts; and the copies in events that have arrived."""
    db.execute("DELETE FROM sightings WHERE scan_id = ?", (scan_id,))
    db.execute("UPDATE scans SET path = 'erased', path_bytes = x'' WHERE scan_id = ?", (scan_id,))
    db.execute("UPDATE verdicts SET note = NULL WHERE scan_id = ? AND note IS NOT NULL", (scan_id,))
    db.execute(
        "DELETE FROM outbox_events WHERE seq IN (SELECT seq FROM outbox WHERE scan_id = ? AND state = 'acknowledged')",
        (scan_id,),
    )
