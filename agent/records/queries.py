"""What the agent asks its own store: the SQL that only reads, on any connection with ``.execute``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.intake.capture import FileStamp
from agent.records.connection import Connection


@dataclass(frozen=True)
class Unfinished:
    """A scan in state ``received``."""

    scan_id: str
    path: Path
    dermoscope_id: str
    identity: str
    attempts: int


@dataclass(frozen=True)
class Unpublished:
    """A finished scan whose result files are not confirmed to lie in ``results/``."""

    scan_id: str
    path: Path
    dermoscope_id: str
    result: str | None
    """The answer as JSON, as it is kept (the patient's id may be sealed); None where it has no overlay: it was
    refused, or its pictures were given up."""


@dataclass(frozen=True)
class Counts:
    """How many scans and outbox rows there are of each state."""

    received: int
    answered: int
    rejected: int
    waiting: int
    acknowledged: int
    dead: int


def unfinished(db: Connection) -> list[Unfinished]:
    """The scans that were claimed and not finished, oldest first."""
    rows = db.execute(
        "SELECT scan_id, path_bytes, dermoscope_id, identity, attempts FROM scans WHERE state = 'received' ORDER BY seq"
    ).fetchall()
    return [Unfinished(row[0], _path(row[1]), row[2], row[3], row[4]) for row in rows]


def first_without_files(db: Connection, after_seq: int) -> tuple[int, Unpublished] | None:
    """The oldest finished scan beyond ``after_seq`` whose files are not confirmed, with its seq."""
    row = db.execute(
        "SELECT seq, scan_id, path_bytes, dermoscope_id,"
        " CASE WHEN state = 'answered' AND kept = 'whole' THEN result END FROM scans"
        " WHERE files_written = 0 AND state <> 'received' AND seq > ? ORDER BY seq LIMIT 1",
        (after_seq,),
    ).fetchone()
    return None if row is None else (row[0], Unpublished(row[1], _path(row[2]), row[3], row[4]))


def places_of(db: Connection, scan_id: str) -> list[Path]:
    """Where a scan's picture was seen, under whatever names."""
    return [_path(row[0]) for row in db.execute("SELECT path_bytes FROM sightings WHERE scan_id = ?", (scan_id,))]


def known(db: Connection, dermoscope_id: str) -> dict[bytes, FileStamp]:
    """Each path seen in a dermoscope's folder whose scan is finished, with its stamp when it was claimed.

    What is still ``received`` is left out, so that the watch brings it again after a crash.
    """
    rows = db.execute(
        "SELECT sightings.path_bytes, device, inode, size, mtime_ns, ctime_ns FROM sightings JOIN scans USING (scan_id)"
        " WHERE sightings.dermoscope_id = ? AND state <> 'received'",
        (dermoscope_id,),
    ).fetchall()
    return {bytes(row[0]): FileStamp(_unsigned(row[1]), _unsigned(row[2]), *row[3:]) for row in rows}


def finished_in(db: Connection, dermoscope_id: str) -> dict[bytes, str]:
    """Each path in a dermoscope's folder whose scan is finished, with the scan's id."""
    rows = db.execute(
        "SELECT path_bytes, scan_id FROM scans WHERE dermoscope_id = ? AND state <> 'received'", (dermoscope_id,)
    ).fetchall()
    return {bytes(row[0]): row[1] for row in rows}


class AtStem(NamedTuple):
    """A scan whose capture was seen at a path that is some stem plus a suffix."""

    scan_id: str
    path: Path
    finished: bool
    unnamed: bool
    """Whether it has no patient fields, and may get some."""


def at_stem(db: Connection, stem: Path) -> list[AtStem]:
    """The scans whose capture was seen at ``stem`` plus a suffix: those that a sidecar of this stem is about."""
    prefix = os.fsencode(stem)
    rows = db.execute(
        "SELECT scan_id, sightings.path_bytes, state <> 'received',"
        " metadata = '{}' AND kept NOT IN ('answer_only', 'erased') FROM sightings JOIN scans USING (scan_id)"
        " WHERE sightings.path_bytes >= ? AND sightings.path_bytes < ?",
        (prefix + b".", prefix + b"/"),  # "/" is the byte after "."
    ).fetchall()
    found = [AtStem(scan_id, _path(path), bool(finished), bool(unnamed)) for scan_id, path, finished, unnamed in rows]
    return [one for one in found if one.path.with_suffix("") == stem]


def result_json(db: Connection, scan_id: str) -> str | None:
    """The kept answer (or refusal) of a scan, opened where the connection opens (`agent.records.reading`); or None."""
    row = db.execute("SELECT result FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()
    return None if row is None else row[0]


def counts(db: Connection) -> Counts:
    """Scans and outbox rows by state."""
    found = dict(db.execute("SELECT state, count(*) FROM scans GROUP BY state", ()).fetchall())
    found |= dict(db.execute("SELECT state, count(*) FROM outbox GROUP BY state", ()).fetchall())
    return Counts(**{name: found.get(name, 0) for name in Counts.__dataclass_fields__})


def _path(path_bytes: bytes) -> Path:
    return Path(os.fsdecode(path_bytes))


def _unsigned(number: int) -> int:
    """What ``scans.claim`` stored as a signed number."""
    return number + (1 << 64) if number < 0 else number
