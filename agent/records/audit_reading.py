"""Reading the audit beside the agent, or without one: whether its chain is whole, and its rows for an auditor."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.records import audit
from agent.records.audit import BEFORE_THE_FIRST, AuditRow
from agent.records.reading import open_reading

TOGETHER: Final = 2000
"""Rows of one look: a long one would make the agent's log grow (F08)."""
MOST_FAULTS: Final = 20


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row, in one sentence."""

    seq: int
    sentence: str


@dataclass(frozen=True)
class Check:
    """What verifying came to."""

    rows: int
    head_seq: int
    head: str
    """The last row's hash; noted elsewhere, it tells later whether all of this was written anew."""
    faults: tuple[Fault, ...]
    """The first of them, in the order of rows."""
    more_faults: int

    @property
    def whole(self) -> bool:
        """Nothing wrong was found."""
        return not self.faults


def verify(state_dir: Path, noted: str | None = None) -> Check:
    """Compute the chain again.

    Args:
        state_dir: of the agent, which may run.
        noted: a head that was noted earlier, and so must be a row's hash still.

    Raises:
        StoreError: the database cannot be read.
    """
    with open_reading(state_dir) as db:
        return verify_in(db, noted)


def verify_in(db: sqlite3.Connection, noted: str | None = None) -> Check:
    """The same, over an open connection."""
    faults: list[Fault] = []
    rows, seq, previous_hash, seen = 0, 0, BEFORE_THE_FIRST, noted in {None, BEFORE_THE_FIRST}
    # First: a row that is added while we read is then no fault.
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    for row in _rows(db, 0):
        if (sentence := _fault(row, seq, previous_hash)) is not None:
            faults.append(Fault(row.seq, sentence))
        rows, seq, previous_hash, seen = rows + 1, row.seq, row.hash, seen or row.hash == noted
    if last is not None and last[0] > seq:
        faults.append(Fault(seq + 1, f"{_rows_text(seq + 1, last[0])} at the end is missing"))
    if not seen:
        sentence = f"no row has the noted hash {noted}: the audit was written anew, or cut off, after it was noted"
        faults.append(Fault(seq + 1, sentence))
    return Check(rows, seq, previous_hash, tuple(faults[:MOST_FAULTS]), max(0, len(faults) - MOST_FAULTS))


def rows_since(state_dir: Path, since: str | None = None) -> Iterator[AuditRow]:
    """The rows, in order; from the first that says it was done at ``since`` or later, where that is given.

    All that the agent heard of after it are among them, whatever their times: a clock that went back hides nothing
    (F16).

    Raises:
        StoreError: the database cannot be read.
    """
    with open_reading(state_dir) as db:
        after = 0
        if since is not None:
            (first,) = db.execute("SELECT min(seq) FROM audit WHERE at >= ?", (since,)).fetchone()
            if first is None:
                return
            after = first - 1
        yield from _rows(db, after)


def exported(row: AuditRow) -> dict[str, object]:
    """A row for others. Its hash is SHA-256 of this as canonical JSON (sorted keys, no spaces, ASCII) without it."""
    return {name: getattr(row, name) for name in audit.COLUMNS} | {"detail": audit.detail_of(row)}


def _rows(db: sqlite3.Connection, after: int) -> Iterator[AuditRow]:
    db.text_factory = lambda data: data.decode("utf-8", "replace")  # what was made unreadable has a wrong hash
    while some := audit.some(db, after, TOGETHER):
        yield from some
        after = some[-1].seq


def _fault(row: AuditRow, seq: int, previous_hash: str) -> str | None:
    try:
        expected = audit.hash_of(vars(row))
    except (ValueError, RecursionError):
        expected = ""
    if expected != row.hash:
        return "its content is not what was written: it was changed, moved or put there"
    if row.seq != seq + 1:
        return f"{_rows_text(seq + 1, row.seq - 1)} before it is missing"
    if row.previous_hash != previous_hash:
        return "it does not follow the row before it: that one was changed together with its hash, or put there"
    return None


def _rows_text(first: int, last: int) -> str:
    return f"row {first}" if first == last else f"each of rows {first} to {last}"
