"""What can still be read of a damaged database, row by row, into a new one (F10)."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
_TABLES = (
    "scans",
    "sightings",
    "outbox",
    "streams",
    "colour_watches",
    "verdicts",
    "ground_truth",
    "commands_seen",
    "audit",
    "keeping",
    "removals",
)
"""In the order that foreign keys ask for. Rows of the audit come as they are: its chain tells what is missing."""
_JSON = {"metadata", "result", "suggestion", "data"}


def salvage(damaged: Path, new: sqlite3.Connection) -> dict[str, int]:
    """Copy every readable row of ours from a damaged file into an open new database; returns rows per table.

    The damaged file is left as it is: the work is done on a copy. Rows that break the tables' rules are left out:
    their captures lie in the dermoscope's folder still, and become the same scan and the same event again.

    Raises:
        sqlite3.Error: the new database cannot be written (quota, disk).
        OSError: there is no room for the copy.
    """
    saved = dict.fromkeys(_TABLES, 0)
    with tempfile.TemporaryDirectory(prefix=".salvage-", dir=damaged.parent) as place:
        copy = Path(place) / damaged.name
        for suffix in ("", "-wal"):
            source = damaged.with_name(damaged.name + suffix)
            if source.exists():
                shutil.copyfile(source, copy.with_name(source.name))
        if not any(file.stat().st_size for file in Path(place).iterdir()):
            return saved
        _mend_header(copy, new)
        old = sqlite3.connect(copy, isolation_level=None)
        try:
            new.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                saved[table] = _copy_rows(old, new, table)
            new.execute("COMMIT")
        finally:
            old.close()
    return saved


def _mend_header(copy: Path, new: sqlite3.Connection) -> None:
    """Where the first bytes are no SQLite header, give the copy the header that our databases have.

    File format: https://www.sqlite.org/fileformat2.html#the_database_header
    """
    copy.touch()
    page_size = int(new.execute("PRAGMA page_size").fetchone()[0])
    with copy.open("r+b") as file:
        if file.read(len(MAGIC) + 2) == MAGIC + page_size.to_bytes(2, "big"):
            return
        pages = max(1, copy.stat().st_size // page_size)
        header = bytearray(HEADER_BYTES)
        header[: len(MAGIC)] = MAGIC
        header[16:18] = page_size.to_bytes(2, "big")
        header[18:24] = bytes((2, 2, 0, 64, 32, 32))  # WAL, no reserved bytes, the fixed payload fractions
        header[24:28] = header[92:96] = (1).to_bytes(4, "big")  # so that the number of pages is believed
        header[28:32] = pages.to_bytes(4, "big")
        header[44:48] = (4).to_bytes(4, "big")  # schema format
        header[56:60] = (1).to_bytes(4, "big")  # UTF-8
        file.seek(0)
        file.write(header)
        file.truncate(pages * page_size)


def _copy_rows(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    columns = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
    names = ", ".join(columns)
    insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - our names
    documents = [place for place, name in enumerate(columns) if name in _JSON]
    saved = 0
    for row in _readable_rows(old, table, names):
        try:
            for place in documents:
                if row[place] is not None:
                    json.loads(row[place])
            saved += new.execute(insert, row).rowcount
        except (sqlite3.IntegrityError, sqlite3.DataError, ValueError, TypeError):
            continue  # a wrong type, state or parent: made of damage, not of ours
    return saved


def _readable_rows(old: sqlite3.Connection, table: str, names: str) -> Iterator[tuple[Any, ...]]:
    """Forward up to the damage, backward down to it, and one by one in between."""
    select = f"SELECT rowid, {names} FROM {table}"  # noqa: S608 - our own names
    ends: list[int] = []
    for order in ("ASC", "DESC"):
        last = None
        try:
            for row in old.execute(f"{select} ORDER BY rowid {order}"):
                last = row[0]
                yield row[1:]
        except sqlite3.Error as error:
            logger.warning("salvage of %s, %s: %s", table, order, error)
        else:
            return
        if last is not None:
            ends.append(last)
    if len(ends) < 2:
        return
    for rowid in range(ends[0] + 1, ends[1]):
        try:
            yield from (row[1:] for row in old.execute(f"{select} WHERE rowid = ?", (rowid,)))
        except sqlite3.Error:
            continue
