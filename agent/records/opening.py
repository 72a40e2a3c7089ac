"""Opening the database so that nothing is ever started over silently (F10): lock, stamps, checks, quarantine."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from datetime import datetime, timezone
from pathlib import Path

from agent.messages.envelope import Sender
from agent.records import audit, giving_up, outbox, quarantine, scans, sqlite_version, verdicts
from agent.records.connection import set_quota
from agent.records.erasures import erased
from agent.records.errors import StoreError
from agent.records.giving_up import Kept
from agent.records.replacing import DATABASE, take_into_use
from agent.records.results import RESULTS_DIR, open_results, sync_folder
from agent.records.salvage import MAGIC, salvage
from agent.records.schema import APPLICATION_ID, SCHEMA_VERSION, migrate, stamp_device, user_version
from agent.records.sealed_rows import refuse_unknown_keys
from agent.records.sealing import PLAIN, Seal

__all__ = ["DATABASE", "LOCK", "StateLock", "connect", "find_damage", "open_database"]

logger = logging.getLogger(__name__)

UNBORN = "dermascan.db.new"
"""A database is made under this name and renamed when whole: so an empty ``dermascan.db`` is always damage."""
LOCK = "agent.lock"
BUSY_TIMEOUT_MS = 1000
CACHE_KIB = 4096
_ENDLESS = (1 << 32) - 2
"""Pages: SQLite's own limit."""


class StateLock:
    """The right to be the only agent on a ``state_dir``. The kernel takes it back when the process ends."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    @classmethod
    def take(cls, state_dir: Path) -> StateLock:
        """Lock ``state_dir`` (made where missing), or raise StoreError naming the process that has it."""
        path = state_dir / LOCK
        try:
            state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as error:
            raise StoreError(
                f"{state_dir}: cannot be written ({error.strerror}): give the agent's user this folder"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise StoreError(
                f"another agent (pid {owner}) is running on {state_dir}: stop it, or give this one its own state_dir"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        return cls(handle)

    def release(self) -> None:
        """Give the lock back. A second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def open_database(state_dir: Path, sender: Sender, quota_mb: int, seal: Seal = PLAIN) -> sqlite3.Connection:
    """The connection that writes, on a sound database of ours. The caller holds the ``StateLock``.

    Raises:
        ConfigError: fields are sealed with a key that ``seal`` does not have.
        StoreError: another device's database, a newer schema, or no permission.
    """
    path = state_dir / DATABASE
    try:
        open_results(state_dir)
        _remove(state_dir / UNBORN)
        take_into_use(state_dir)  # a restoration that a power cut broke off
        damage = find_damage(path, sender.device_id, ours=True)
        if damage is None and not path.exists():
            damage = _why_missing_is_wrong(state_dir)
        if damage is not None:
            logger.error("%s is damaged (%s): moved to %s", path, damage, state_dir / quarantine.QUARANTINE)
            quarantine.move_in(path, damage)
        if not path.exists():
            _make(state_dir, sender, quota_mb)
        elif (salvaged := quarantine.pending(state_dir)) is not None:
            quarantine.finish(salvaged, "carried over; the agent was stopped before it could note how much")
        connection = connect(path, quota_mb)
        try:
            _upgrade(connection, quota_mb)
            refuse_unknown_keys(connection, seal)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{path}: cannot be opened ({error}): check that the agent's user owns {state_dir}, that the disk is sound "
            "and has room"
        ) from error
    logger.info("%s", sqlite_version.explain())
    return connection


def _upgrade(connection: sqlite3.Connection, quota_mb: int) -> None:
    """Bring the tables up to date. A full database needs more than its quota meanwhile, to be moved about in (F29)."""
    if user_version(connection) == SCHEMA_VERSION:
        return
    connection.execute(f"PRAGMA max_page_count = {_ENDLESS}")
    try:
        migrate(connection)
    finally:
        set_quota(connection, quota_mb)


def find_damage(path: Path, device_id: str, *, ours: bool = False) -> str | None:
    """What is wrong with a database file, in words; None where it is sound or does not exist.

    ``ours``: nobody else has it open. Then rows are also held against their tables' rules: SQLite does not read the
    CHECK constraints of a file that it opens read-only (measured with 3.40.1), though nothing is written here either.

    Raises:
        StoreError: it is sound, and not for us: another device's, or written by newer software.
    """
    if not path.exists():
        return None
    with path.open("rb") as file:  # before any connection: closing a file drops this process's locks on it
        head = file.read(len(MAGIC))
    if head != MAGIC:
        return "it is empty" if not head else "its first bytes are not a SQLite database's"
    try:
        mode = "rw" if ours else "ro"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = ON")
            return _find_damage_inside(connection, path, device_id)
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:  # quick_check reports, and on some damage raises
        if "locked" in str(error) or "unable to open" in str(error):
            raise
        return str(error)


def _find_damage_inside(connection: sqlite3.Connection, path: Path, device_id: str) -> str | None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        return f"its application_id is {application}, not {APPLICATION_ID}: it was not made by this agent"
    version = user_version(connection)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: was written by newer software (schema {version}, this one knows {SCHEMA_VERSION}): install that "
            "version again, or move the file away to start over without its scans"
        )
    complaints = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if complaints != ["ok"]:
        return "; ".join(complaints)
    owners = [row[0] for row in connection.execute("SELECT id FROM device")]
    if not owners:
        return "it does not say whose it is"
    if owners != [device_id]:
        raise StoreError(
            f"{path}: belongs to device {owners[0]!r}, and [device] id is {device_id!r}: set the id back, or give "
            "this device its own state_dir"
        )
    return None


def connect(path: Path, quota_mb: int) -> sqlite3.Connection:
    """A connection with the store's settings, in autocommit mode, for one owner thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses the last commits in a power cut (F11)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoint.py does it and reads the result (F08)
        connection.execute(f"PRAGMA journal_size_limit = {4 * 1024 * 1024}")
        connection.execute("PRAGMA secure_delete = FAST")  # what is overwritten in a page is gone from it
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        set_quota(connection, quota_mb)
    except BaseException:
        connection.close()
        raise
    return connection


def _why_missing_is_wrong(state_dir: Path) -> str | None:
    """A database that is not there although it was: its results or its log are."""
    if quarantine.pending(state_dir) is not None:
        return "an earlier salvage was interrupted"
    if (state_dir / f"{DATABASE}-wal").exists():
        return "it is gone, and its log is not"
    results = state_dir / RESULTS_DIR
    if results.is_dir() and any(results.glob("*.json")):
        return "it is gone, and the results of its scans are not"
    return None


def _make(state_dir: Path, sender: Sender, quota_mb: int) -> None:
    """Make the database whole under another name, with what the last damaged one still holds, then rename it."""
    unborn = state_dir / UNBORN
    connection = connect(unborn, quota_mb)
    try:
        migrate(connection)
        stamp_device(connection, sender.device_id)
        damaged = quarantine.pending(state_dir)
        if damaged is not None:
            saved = salvage(damaged / DATABASE, connection)
            if giving_up.reduce(connection, state_dir, erased(state_dir), Kept.ERASED):  # older states may have come
                connection.execute("VACUUM")
            giving_up.forget_events_of_erased(connection)
            saved["events built again"] = scans.post_missing_events(connection, sender) + verdicts.post_missing_events(
                connection, sender
            )
            saved["events without bytes"] = outbox.bury_without_bytes(connection)
            told = ", ".join(f"{count} {what}" for what, count in saved.items())
            audit.append(connection, _salvaged(damaged, saved))
            logger.error("%s: carried over into the new database: %s", damaged, told)
    finally:
        connection.close()
    unborn.chmod(0o640)
    sync_folder(state_dir)
    unborn.rename(state_dir / DATABASE)
    sync_folder(state_dir)
    if damaged is not None:
        quarantine.finish(damaged, told)


def _salvaged(damaged: Path, saved: dict[str, int]) -> audit.Entry:
    detail = {"carried_over": saved, "quarantine": damaged.name}
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # Nobody vouches for the clock here.
    return audit.entry(audit.AGENT, audit.AuditAction.SALVAGE, None, detail, at=at, clock_trusted=False)


def _remove(unborn: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        unborn.with_name(unborn.name + suffix).unlink(missing_ok=True)
