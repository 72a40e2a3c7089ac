"""The database: whose it is, whether it is whole, its log, and what was put into quarantine (F08, F10)."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from agent.config import ConfigError
from agent.doctor.finding import Check, Finding, failed, ok, skipped, warning
from agent.doctor.place import UNIT, Place
from agent.records.opening import BUSY_TIMEOUT_MS, DATABASE
from agent.records.quarantine import QUARANTINE
from agent.records.results import RESULTS_DIR
from agent.records.salvage import MAGIC
from agent.records.schema import APPLICATION_ID, SCHEMA_VERSION, user_version
from agent.records.sealed_rows import refuse_unknown_keys
from agent.records.sealing import read_seal
from agent.records.space import MIB

LARGE_LOG: Final = 64 * MIB
LOOK_S: Final = 60.0
"""A database of several gigabytes on a slow disk takes longer; the agent's log waits behind a reader (F08)."""
_STEPS: Final = 100_000
_SALVAGE: Final = (
    f"restart the agent (sudo systemctl restart {UNIT}): it moves the file to quarantine and carries over every row "
    "that can be read; then look at 'Wear of the disk'"
)


def look(place: Place) -> Iterator[Finding]:
    """Only reads."""
    path = place.state_dir / DATABASE
    try:
        yield from _file(path, place.config.device.id, place.config.privacy.field_key_file)
    except sqlite3.Error as error:
        if "unable to open" in str(error) or "locked" in str(error) or "readonly" in str(error):
            yield failed(f"The database cannot be read ({error}).", "run it as root, or as the agent's user")
        else:
            yield failed(f"The database is damaged ({error}).", _SALVAGE)
    yield from _log(path)
    yield from _quarantine(place.state_dir / QUARANTINE)


def _file(path: Path, device_id: str, field_key: Path | None) -> Iterator[Finding]:
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except FileNotFoundError:
        yield _missing(path)
        return
    except PermissionError:
        yield skipped("Not looked at: this user may not read the database. Run it as root (sudo).")
        return
    if head != MAGIC:
        what = "empty" if not head else "no database: its first bytes are wrong"
        yield failed(f"The database file is {what}.", _SALVAGE)
        return
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as db:
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        db.execute("PRAGMA query_only = ON")
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            yield failed("The database file was not made by this agent.", _SALVAGE)
            return
        if (version := user_version(db)) > SCHEMA_VERSION:
            sentence = f"The database was written by newer software (schema {version}, here {SCHEMA_VERSION})."
            yield failed(sentence, "install the newer version again")
            return
        owners = [row[0] for row in db.execute("SELECT id FROM device")]
        if owners != [device_id]:
            whose = repr(owners[0]) if owners else "nobody"
            sentence = f"The database belongs to device {whose}, and the settings say {device_id!r}."
            yield failed(sentence, "set [device] id back, or give this device its own state_dir")
            return
        yield _whole(db, path)
        if version == SCHEMA_VERSION:
            yield from _keys(db, field_key)


def _keys(db: sqlite3.Connection, field_key: Path | None) -> Iterator[Finding]:
    """Whether every sealed field can be opened with the keys that are here; "Keys and tokens" tells of the file."""
    if field_key is not None and not os.access(field_key, os.R_OK):
        return
    try:
        refuse_unknown_keys(db, read_seal(field_key))
    except ConfigError as error:
        what, _, remedy = str(error).partition(": put ")
        yield failed(f"{what}.", f"put {remedy}" if remedy else "give the clinic's key back from its copy")


def _missing(path: Path) -> Finding:
    results = path.parent / RESULTS_DIR
    if path.with_name(f"{path.name}-wal").exists() or (results.is_dir() and any(results.glob("*.json"))):
        return failed("The database is gone, and the answers beside it are not.", _SALVAGE)
    return skipped("There is no database yet: the agent makes it at its first start.")


def _whole(db: sqlite3.Connection, path: Path) -> Finding:
    megabytes = path.stat().st_size / MIB
    ends = time.monotonic() + LOOK_S
    db.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
    try:
        complaints = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return skipped(f"The database ({megabytes:.0f} MB) is too large to be looked through in {LOOK_S:.0f} s.")
        raise
    if complaints != ["ok"]:
        return failed(f"The database is damaged ({'; '.join(complaints)[:200]}).", _SALVAGE)
    scans = db.execute("SELECT count(*) FROM scans").fetchone()[0]
    return ok(f"The database is whole: {scans} scans, {megabytes:.1f} MB.")


def _log(path: Path) -> Iterator[Finding]:
    try:
        size = path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return
    if size >= LARGE_LOG:
        yield warning(
            f"The database's log has grown to {size // MIB} MB: a program that reads holds it.",
            f"end programs that have the database open; if there are none: sudo systemctl restart {UNIT}",
        )


def _quarantine(folder: Path) -> Iterator[Finding]:
    kept = [one for one in folder.glob("*") if one.is_dir() and one.name.isdecimal()] if folder.is_dir() else []
    if unfinished := [one for one in kept if not (one / "SALVAGED").exists()]:
        yield failed(
            f"A damaged database in {unfinished[0]} was not carried over to its end.",
            f"restart the agent: sudo systemctl restart {UNIT}",
        )
    elif kept:
        yield warning(
            f"A damaged database was replaced once ({len(kept)} in {folder}); what could be read was carried over.",
            "look at the disk ('Wear of the disk'), then delete the folder once nobody needs it",
        )


CHECK = Check(
    name="database",
    title="Database",
    looks_at="dermascan.db: stamps, device id, every page (quick_check), its log's size, keys, the quarantine folder",
    why="It holds every answer that was given, and what the cloud has not confirmed yet.",
    look=look,
    limit_s=LOOK_S + 15.0,
    hung="the disk does not answer: look at 'Wear of the disk', then restart the device",
)
