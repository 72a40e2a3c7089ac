"""What the ledger knows of each device: what was heard, what is missing, what could not be read."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cloud.ledger import APPLICATION_ID, LedgerError
from cloud.ranges import Range, gaps

MAX_GAPS: Final = 20
"""Of each stream, the oldest; ``missing`` counts them all."""


@dataclass(frozen=True)
class Stream:
    """One topic of one device."""

    topic: str
    heard: int
    """Different events."""
    duplicates: int
    reused: int
    """Events with a number that another event had before: the device numbers anew, since its database was lost."""
    malformed: int
    highest: int
    """Number; 0 where none was heard."""
    missing: int
    """Numbers between 1 and ``highest`` that were not heard: on their way, or given up on the device."""
    gaps: tuple[Range, ...]
    """The first of them, as (first, last)."""
    last_heard_at: str


@dataclass(frozen=True)
class DeviceReport:
    """One device."""

    clinic_id: str
    device_id: str
    state: str | None
    """``online``, ``offline``, ``lost``; None where it never said."""
    software_version: str | None
    streams: tuple[Stream, ...]


def report(ledger: Path) -> list[DeviceReport]:
    """Read the ledger beside its owner.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """
    if not ledger.is_file():
        raise LedgerError(f"{ledger}: there is no ledger here; dermascan cloud makes one, and --ledger FILE names it")
    try:
        database = sqlite3.connect(f"file:{quote(str(ledger.absolute()))}?mode=ro", uri=True)
        try:
            if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise LedgerError(f"{ledger}: is no ledger; name another file with --ledger FILE")
            database.execute("BEGIN")  # one view of everything
            return _read(database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise LedgerError(f"{ledger}: cannot be read ({error})") from error


def _read(database: sqlite3.Connection) -> list[DeviceReport]:
    numbers = database.execute("SELECT * FROM numbers ORDER BY clinic_id, device_id, topic, first").fetchall()
    spans = {key: [(row[3], row[4]) for row in group] for key, group in groupby(numbers, lambda row: row[:3])}
    states = {row[:2]: row[2:4] for row in database.execute("SELECT * FROM devices")}
    streams: dict[tuple[str, str], list[Stream]] = {key: [] for key in states}
    for *key, topic, heard, duplicates, reused, malformed, last_heard_at in database.execute(
        "SELECT * FROM streams ORDER BY clinic_id, device_id, topic"
    ):
        found = spans.get((*key, topic), [])
        missing = gaps(found)
        streams.setdefault((key[0], key[1]), []).append(
            Stream(
                topic=topic,
                heard=heard,
                duplicates=duplicates,
                reused=reused,
                malformed=malformed,
                highest=found[-1][1] if found else 0,
                missing=sum(last - first + 1 for first, last in missing),
                gaps=tuple(missing[:MAX_GAPS]),
                last_heard_at=last_heard_at,
            )
        )
    found_devices = []
    for (clinic_id, device_id), of_device in sorted(streams.items()):
        state, software_version = states.get((clinic_id, device_id), (None, None))
        found_devices.append(DeviceReport(clinic_id, device_id, state, software_version, tuple(of_device)))
    return found_devices
