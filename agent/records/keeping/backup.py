"""A copy of the database, made beside the running agent, checked, and there whole or not at all.

It is made by SQLite's online backup over a connection that can only read: such a one never checkpoints (F09), sees one
moment of the database, and keeps nobody waiting; the agent's log only cannot be emptied behind it for as long as the
copying takes (F08). Nothing is asked of the agent, so that there is a copy of a database whose agent hangs, too.

    backups/dermascan-000012.db      one file, without a log
    backups/dermascan-000012.json    when, what is in it, its SHA-256, the audit's last hash

They are numbered, since the clock of a device may be wrong (F16). Patient fields are sealed in a copy as they are in
the database; the key is not in it. A copy replaces all that were made before the last time a patient was erased.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agent.records import audit_reading
from agent.records.erasures import erased
from agent.records.errors import StoreError
from agent.records.opening import find_damage
from agent.records.reading import open_reading
from agent.records.results import FILE_MODE, FOLDER_MODE, sync_folder, write_atomically
from agent.records.schema import user_version
from agent.records.space import DISK_RESERVE_BYTES

BACKUPS: Final = "backups"
"""Under ``state_dir``, unless another folder is named."""
KEEP: Final = 7
TABLES: Final = ("scans", "outbox", "verdicts", "ground_truth", "audit")
"""Whose rows are counted."""
PAGES_AT_ONCE: Final = 1024
_NAME: Final = re.compile(r"dermascan-(\d{6,})\.db")


class BackupError(StoreError):
    """No backup was made, or this is none that can be used. The text says why and what to do."""


@dataclass(frozen=True)
class Backup:
    """What is written beside a copy."""

    made_at: str
    """By the device's clock (RFC 3339, UTC), which may be wrong."""
    device_id: str
    schema: int
    rows: dict[str, int]
    audit_head: str
    bytes: int
    sha256: str
    erasures: int
    """How many scans had been erased by then: a copy from before the last one holds what is to be forgotten."""
    audit_fault: str | None
    """What is wrong with the audit in the database, and so in the copy; None where it is whole."""


def backup(
    state_dir: Path,
    folder: Path,
    keep: int = KEEP,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> tuple[Path, Backup, list[Path]]:
    """Make a copy, check it, and remove those that it replaces; returns it and what was removed.

    Args:
        state_dir: of the agent, which may run.
        folder: made where missing.
        keep: how many copies stay, this one included.
        progress: told of the pages done and of all of them.

    Raises:
        BackupError: there is no room, another backup is under way, or the copy is not what the database is.
        StoreError: the database cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with _only_one(folder):
        for left in folder.glob(".dermascan-*.part*"):
            left.unlink()
        _check_room(state_dir, folder)
        target = folder / f"dermascan-{_next_number(folder):06d}.db"
        working = folder / f".{target.name}.part"
        try:
            erasures = len(erased(state_dir))  # before copying: who is erased meanwhile is in the copy
            device_id, rows = _copy(state_dir, working, progress)
            made = _checked(working, device_id, rows, erasures)
            write_atomically(target.with_suffix(".json"), (json.dumps(asdict(made), indent=2) + "\n").encode())
            working.replace(target)
            sync_folder(folder)
        except BaseException:
            working.unlink(missing_ok=True)
            raise
        _give_to_owner((folder, target, target.with_suffix(".json")), state_dir)
        return target, made, _prune(folder, keep, target, made.erasures)


def listed(folder: Path) -> list[Path]:
    """The copies in a folder, the oldest first."""
    found = [path for path in folder.glob("dermascan-*.db") if _NAME.fullmatch(path.name)]
    return sorted(found, key=_number)


def described(copy: Path) -> Backup | None:
    """What is written beside a copy; None where nothing is."""
    try:
        content: dict[str, Any] = json.loads(copy.with_suffix(".json").read_bytes())
        return Backup(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise BackupError(
            f"{copy.with_suffix('.json')}: is not what was written beside a copy: take another one"
        ) from error


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _copy(state_dir: Path, working: Path, progress: Callable[[int, int], None]) -> tuple[str, dict[str, int]]:
    """Copy one moment of the database into a file, durable; whose it is, and its rows at that moment."""
    os.close(os.open(working, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    with open_reading(state_dir) as source, closing(sqlite3.connect(working, isolation_level=None)) as copy:
        source.execute("BEGIN")  # the counts and all pages are of one moment
        rows = {table: _count(source, table) for table in TABLES}
        (device_id,) = source.execute("SELECT id FROM device").fetchone()
        source.backup(copy, pages=PAGES_AT_ONCE, progress=lambda _, left, total: progress(total - left, total))
        source.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode = DELETE")  # a file that stands for itself
    with working.open("rb+") as file:
        os.fsync(file.fileno())
    return device_id, rows


def _checked(working: Path, device_id: str, rows: dict[str, int], erasures: int) -> Backup:
    if (damage := find_damage(working, device_id, ours=True)) is not None:
        raise BackupError(f"the copy is damaged ({damage}): the backup was not kept; check the disk it was written to")
    with closing(sqlite3.connect(f"{working.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
        complaints = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(3)")]
        if complaints != ["ok"]:
            raise BackupError(
                f"the copy is damaged ({'; '.join(complaints)}), and so the database may be: restart the agent, which "
                "carries over what can be read, and check the disk"
            )
        found = {table: _count(copy, table) for table in TABLES}
        if found != rows:
            raise BackupError(
                f"the copy has {found}, where the database has {rows}: the backup was not kept; try again"
            )
        check = audit_reading.verify_in(copy)
        fault = check.faults[0].sentence if check.faults else None
        schema = user_version(copy)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    size, sha256 = working.stat().st_size, sha256_of(working)
    return Backup(now, device_id, schema, rows, check.head, size, sha256, erasures, fault)


def _check_room(state_dir: Path, folder: Path) -> None:
    needed = sum(file.stat().st_size for file in state_dir.glob("dermascan.db*")) + DISK_RESERVE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BackupError(
            f"{folder}: has {free >> 20} MiB free, and a copy needs {needed >> 20}: free the disk, or name a folder on "
            "another one with --to"
        )


def _prune(folder: Path, keep: int, newest: Path, erasures: int) -> list[Path]:
    """Remove the oldest copies, and all that still hold a patient who was erased."""
    older = [path for path in listed(folder) if path != newest]
    gone = older[: max(0, len(older) - keep + 1)]
    for path in older:
        try:
            made = described(path)
        except BackupError:
            continue
        if path not in gone and made is not None and made.erasures < erasures:
            gone.append(path)
    for path in gone:
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
    sync_folder(folder)
    return gone


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BackupError(f"{folder}: another backup is being made there: try again when it is done") from error
    finally:
        os.close(handle)


def _count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0])  # noqa: S608 - our own names


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else 0


def _next_number(folder: Path) -> int:
    return max(map(_number, listed(folder)), default=0) + 1


def _give_to_owner(paths: tuple[Path, ...], state_dir: Path) -> None:
    """What root writes below ``state_dir`` belongs to the agent's user."""
    if os.geteuid() == 0:
        owner = state_dir.stat()
        for path in paths:
            if state_dir in path.parents:
                os.chown(path, owner.st_uid, owner.st_gid)
