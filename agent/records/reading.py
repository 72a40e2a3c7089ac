"""Reading the database beside the daemon, or without one: read-only, and it never checkpoints (F08, F09)."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.answer.scan import ScanState
from agent.records import outbox
from agent.records.errors import StoreError
from agent.records.opening import LOCK
from agent.records.outbox import OutboxStats
from agent.records.replacing import DATABASE
from agent.records.schema import APPLICATION_ID, OUTBOX_RANK, SCHEMA_VERSION, user_version
from agent.records.sealed_rows import is_sealed, seal_of
from agent.records.sealing import METADATA, NOTE, Seal

BUSY_TIMEOUT_MS = 2000


@dataclass(frozen=True)
class ScanRow:
    """One scan as ``dermascan scans`` lists it. ``result`` is the parsed answer or refusal."""

    seq: int
    scan_id: str
    state: ScanState
    path: str
    dermoscope_id: str
    image_sha256: str | None
    reason: str | None
    sentence: str | None
    backend: str | None
    attempts: int
    received_at: str
    finished_at: str | None
    clock_trusted: bool
    result: dict[str, Any] | None


@dataclass(frozen=True)
class QueueRow:
    """One outbox row as ``dermascan queue`` lists it: all but the event's content."""

    seq: int
    event_id: str
    type: str
    topic: str
    scan_id: str | None
    state: str
    bytes: int
    attempts: int
    reason: str | None
    created_at: str


@contextmanager
def open_reading(state_dir: Path, seal: Seal | None = None) -> Iterator[sqlite3.Connection]:
    """A connection that can change nothing. Keep it short: a long reader makes the daemon's log grow (F08).

    Where patient fields are sealed, it reads them opened if this process may read the key, and as absent if it may not;
    ``seal`` are the keys, where they are at hand.

    Raises:
        StoreError: there is no database, or it is not one that this version can read.
    """
    with readable(state_dir), closing(connect_reading(state_dir, seal)) as db:
        yield db


@contextmanager
def readable(state_dir: Path) -> Iterator[None]:
    """Say in words what SQLite says of the database: StoreError for whatever it raises."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{state_dir / DATABASE}: cannot be read ({error}): run this as the agent's user; if that does not help, "
            "restart the agent"
        ) from error


def connect_reading(state_dir: Path, seal: Seal | None) -> sqlite3.Connection:
    """As `open_reading`, for who closes it; for one thread at a time. Raises ``sqlite3.Error``, too.

    With keys at hand, what is sealed later is read opened as well.
    """
    path = state_dir / DATABASE
    if not path.exists():
        raise StoreError(
            f"{path}: there is no database yet: start the agent (dermascan run), or check [device] state_dir"
        )
    name = f"{path.resolve().as_uri()}?mode=ro"
    db = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        _refuse_foreign(db, path)
        if (seal is not None and seal.key_ids) or is_sealed(db):
            _show_opened(db, seal_of(state_dir) if seal is None else seal)
        db.execute("PRAGMA query_only = ON")
    except BaseException:
        db.close()
        raise
    return db


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path}: is not a database of this agent: start the agent, which looks into it")
    if user_version(db) != SCHEMA_VERSION:
        raise StoreError(f"{path}: was written by another version: start this version's agent once, then retry")


def list_scans(state_dir: Path, state: ScanState | None = None, limit: int | None = None) -> list[ScanRow]:
    """The newest ``limit`` scans (all where None), of one state where given, the newest last."""
    where, values = ("", []) if state is None else ("WHERE state = ?", [state.value])
    columns = ", ".join(ScanRow.__dataclass_fields__)
    with open_reading(state_dir) as db:
        rows = db.execute(
            f"SELECT {columns} FROM scans {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - our own names
            [*values, -1 if limit is None else limit],
        ).fetchall()
    return [_scan_row(row) for row in reversed(rows)]


def find_scan(state_dir: Path, scan_id: str) -> ScanRow | None:
    """One scan; None where there is none of this id."""
    columns = ", ".join(ScanRow.__dataclass_fields__)
    with open_reading(state_dir) as db:
        row = db.execute(f"SELECT {columns} FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()  # noqa: S608
    return None if row is None else _scan_row(row)


def list_outbox(state_dir: Path, state: str, limit: int | None = None) -> list[QueueRow]:
    """The first ``limit`` outbox rows (all where None) of a state, in the order of sending."""
    columns = ", ".join(QueueRow.__dataclass_fields__).replace("bytes", "ifnull(length(event), 0)")
    with open_reading(state_dir) as db:
        rows = db.execute(
            f"SELECT {columns} FROM outbox LEFT JOIN outbox_events USING (seq)"  # noqa: S608
            f" WHERE state = ? ORDER BY {OUTBOX_RANK}, seq LIMIT ?",
            (state, -1 if limit is None else limit),
        ).fetchall()
    return [QueueRow(*row) for row in rows]


def outbox_stats(state_dir: Path) -> OutboxStats:
    """How the outbox stands."""
    with open_reading(state_dir) as db:
        return outbox.stats(db)


def agent_seems_to_run(state_dir: Path) -> bool:
    """Whether the process that last held ``state_dir`` is alive: for politeness, not to rely on."""
    try:
        os.kill(int((state_dir / LOCK).read_text(encoding="ascii")), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _show_opened(db: sqlite3.Connection, seal: Seal) -> None:
    """Put views before the tables that hold sealed fields: whoever reads this connection reads them opened."""
    db.execute("PRAGMA temp_store = MEMORY")

    def opened(text: str | None, row: str, field: str) -> str | None:
        return None if text is None else seal.open(text, row, field)

    def opened_result(text: str | None, scan_id: str) -> str | None:
        return None if text is None else seal.open_result(text, scan_id)

    db.create_function("opened", 3, opened, deterministic=True)
    db.create_function("opened_result", 2, opened_result, deterministic=True)
    for table, shown in _OPENED.items():
        columns = [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
        listed = ", ".join(f"{shown[name]} AS {name}" if name in shown else name for name in columns)
        db.execute(f"CREATE TEMP VIEW {table} AS SELECT {listed} FROM main.{table}")  # noqa: S608 - our own names


_OPENED: Final = {
    "scans": {
        "metadata": f"coalesce(opened(metadata, scan_id, '{METADATA}'), '{{}}')",
        "result": "opened_result(result, scan_id)",
    },
    "verdicts": {"note": f"opened(note, verdict_id, '{NOTE}')"},
}


def _scan_row(row: tuple[Any, ...]) -> ScanRow:
    fields = dict(zip(ScanRow.__dataclass_fields__, row, strict=True))
    fields["state"] = ScanState(fields["state"])
    fields["clock_trusted"] = bool(fields["clock_trusted"])
    fields["result"] = None if fields["result"] is None else json.loads(fields["result"])
    return ScanRow(**fields)
