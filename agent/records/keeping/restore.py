"""Taking a backup into use: checked, prepared beside the database, and exchanged for it in steps that survive a crash.

The present database is moved to ``state_dir/replaced/<n>/`` and never deleted. What the copy does not have comes
again: captures that were answered since lie in their folders still and become the same scans with the same events;
events that were acknowledged since are sent once more, and the cloud knows them by their ids (F19). Verdicts that were
given since are in the database that was moved aside, and in the cloud. Patients who were erased since the copy was made
are erased in it.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from agent.config import ConfigError
from agent.records import audit, audit_reading, giving_up
from agent.records.audit import SHELL, Actor, AuditAction
from agent.records.erasures import erased
from agent.records.errors import StoreError
from agent.records.giving_up import Kept
from agent.records.keeping.backup import TABLES, BackupError, described, sha256_of
from agent.records.opening import StateLock, connect, find_damage
from agent.records.replacing import READY, take_into_use
from agent.records.results import RESULTS_DIR, sync_folder
from agent.records.schema import migrate
from agent.records.sealed_rows import refuse_unknown_keys
from agent.records.sealing import Seal

ENDLESS_MB: Final = 1_000_000


@dataclass(frozen=True)
class Restored:
    """What came of it."""

    moved_to: str | None
    """Where the database lies that was in use; None where there was none."""
    rows: dict[str, int]
    """Now."""
    erased_again: int
    """Scans of erased patients that the copy still had."""
    sent_again: int
    """Events that wait for the cloud now; those it has already it passes over."""


def restore(copy: Path, state_dir: Path, device_id: str, who: str, seal: Seal) -> Restored:
    """Take a copy into use; the agent must not run.

    Args:
        copy: made by `agent.records.keeping.backup`; it is left as it is.
        state_dir: of the agent.
        device_id: whose copy it must be.
        who: gives the command, for the audit.
        seal: the keys: a copy that is sealed with another one is refused.

    Raises:
        StoreError: the agent runs; the copy is damaged, another device's or a newer version's; there is no room.
        OSError: ``state_dir`` cannot be written.
    """
    lock = StateLock.take(state_dir)
    try:
        _check(copy, device_id)
        ready = state_dir / READY
        working = state_dir / f"{READY}.part"
        for left in (ready, *state_dir.glob(f"{working.name}*")):
            left.unlink(missing_ok=True)
        shutil.copyfile(copy, working)
        working.chmod(0o640)
        erased_again, rows, waiting = _prepare(working, state_dir, copy, who, seal)
        sync_folder(state_dir)
        working.replace(ready)
        sync_folder(state_dir)
        moved_to = take_into_use(state_dir)
    finally:
        lock.release()
    return Restored(None if moved_to is None else str(moved_to), rows, erased_again, waiting)


def _check(copy: Path, device_id: str) -> None:
    if not copy.is_file():
        raise BackupError(f"{copy}: there is no such file: name a copy (dermascan-<number>.db in the backups' folder)")
    if copy.with_name(f"{copy.name}-wal").exists():
        raise BackupError(
            f"{copy}: has a log beside it, so it is no finished copy: name one that dermascan backup made"
        )
    made = described(copy)
    if made is not None and made.sha256 != sha256_of(copy):
        raise BackupError(f"{copy}: is not what was written (its SHA-256 differs): it is damaged; take another copy")
    if (damage := find_damage(copy, device_id)) is not None:
        raise BackupError(f"{copy}: is damaged ({damage}): take another copy")


def _prepare(working: Path, state_dir: Path, copy: Path, who: str, seal: Seal) -> tuple[int, dict[str, int], int]:
    """Bring the copy up to this version and to what has been decided since."""
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    try:
        with closing(connect(working, ENDLESS_MB)) as db:
            migrate(db)
            refuse_unknown_keys(db, seal)
            check = audit_reading.verify_in(db)
            db.execute("BEGIN IMMEDIATE")
            # Files of before belong to the rows as they were: whatever is gone or may differ is written again.
            again = giving_up.reduce(db, state_dir, erased(state_dir), Kept.ERASED)
            for (scan_id,) in db.execute("SELECT scan_id FROM scans WHERE state <> 'received'").fetchall():
                if not (state_dir / RESULTS_DIR / f"{scan_id}.json").exists():
                    db.execute("UPDATE scans SET files_written = 0 WHERE scan_id = ?", (scan_id,))
            detail = {
                "copy": copy.name,
                "audit_head_then": check.head,
                "audit_whole_then": check.whole,
                "erased_again": len(again),
            }
            entry = audit.entry(Actor(who, SHELL), AuditAction.RESTORE, None, detail, at=at, clock_trusted=False)
            audit.append(db, entry)
            rows = {table: int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in TABLES}  # noqa: S608
            (waiting,) = db.execute("SELECT count(*) FROM outbox WHERE state = 'waiting'").fetchone()
            db.execute("COMMIT")
            if again:
                db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode = DELETE")
    except (sqlite3.Error, ConfigError, StoreError) as error:
        for left in working.parent.glob(f"{working.name}*"):
            left.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise BackupError(f"{copy}: cannot be taken into use ({error}): take another copy") from error
        raise
    return len(again), rows, waiting
