"""What can still be read of a damaged database, row by row, into a new one (F10).

First by its trees, which is how most rows come; then page by page, for those to which no way leads any more.
"""

from __future__ import annotations

import json
import logging
import mmap
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.messages.catalogue import BY_TYPE
from agent.records import pages
from agent.records.messages import event_id_of
from agent.records.sealing import SEALED

logger = logging.getLogger(__name__)

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
_GROUPS = (
    ("scans",),
    (
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
    ),
    ("outbox_events",),
)
"""Those that others refer to come first. An event whose scan is lost is kept without it, a sighting is not: it says
nothing but which scan a file is. Rows of the audit come as they are: its chain tells what is missing."""
_JSON = {"metadata", "result", "suggestion", "data", "event"}
"""What must be JSON: a row in which it is not was damaged. An event is then built again from its scan."""
_STORED = {
    "scans": 20,
    "sightings": 8,
    "outbox": 9,
    "outbox_events": 2,
    "verdicts": 13,
    "ground_truth": 7,
    "commands_seen": 5,
    "audit": 12,
    "colour_watches": 2,
    "streams": 2,
}
"""How many values a record of each table had in its first version: by this it is known away from its tree."""
_NUMBERED = {"scans", "outbox", "outbox_events", "verdicts", "ground_truth", "commands_seen", "audit"}
"""Tables whose first column is the record's own number."""
_COUNTED = {"new_outbox", "new_verdicts", *_NUMBERED}
"""Names in SQLite's own list of numbers."""
_OLD_OUTBOX, _OLD_EVENT = 10, 5
"""Up to schema 6 a row of the outbox had so many values, the event itself at this place (F29)."""


def salvage(damaged: Path, new: sqlite3.Connection) -> dict[str, int]:
    """Copy every readable row of ours from a damaged file into an open new database; returns rows per table.

    The damaged file is left as it is: the work is done on a copy. Rows that break the tables' rules are left out:
    their captures lie in the dermoscope's folder still, and become the same scan and the same event again.

    Raises:
        sqlite3.Error: the new database cannot be written (quota, disk).
        OSError: there is no room for the copy.
    """
    saved = {table: 0 for tables in _GROUPS for table in tables}
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
            _fold_log(old)
            new.execute("BEGIN IMMEDIATE")
            with _mapped(copy) as view:
                for tables in _GROUPS:
                    for table in tables:
                        saved[table] += _copy_rows(old, new, table)
                    for table, count in _loose_rows(view, new, [name for name in tables if name in _STORED]).items():
                        saved[table] += count
            new.execute("COMMIT")
        finally:
            old.close()
    return saved


@contextmanager
def _mapped(copy: Path) -> Iterator[memoryview]:
    """A file's bytes, however many they are."""
    with copy.open("rb") as file:
        if file.seek(0, 2) == 0:
            yield memoryview(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            yield view


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
    columns, source = _columns(new, table), table
    try:
        if table == "outbox_events" and "event" in _columns(old, "outbox"):
            source = "outbox"  # of an older version, where events lay in it (F29)
        there = _columns(old, source)
    except sqlite3.Error:
        there = columns
    # A database that an older version left has fewer of them (F29).
    known = [name for name in columns if name in there] if there else columns
    keep = _Keeping(new, table, known)
    return sum(keep(row) for row in _readable_rows(old, source, ", ".join(known)))


class _Keeping:
    """Puts rows of a table into the new database; 1 for one that was not there and fits."""

    def __init__(self, new: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
        self._new = new
        marks = ", ".join("?" * len(columns))
        self._insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our names
        self._table = table
        self._scan = columns.index("scan_id") if table == "outbox" else None
        self._documents = [place for place, name in enumerate(columns) if name in _JSON]

    def __call__(self, row: Sequence[Any]) -> int:
        try:
            for place in self._documents:
                if row[place] and SEALED.fullmatch(str(row[place])) is None:
                    json.loads(row[place])
            if self._scan is not None and not self._known(row[self._scan]):
                row = [*row[: self._scan], None, *row[self._scan + 1 :]]
            if self._table == "colour_watches" and not isinstance(json.loads(row[1]), dict):
                return 0  # of SQLite's own list of numbers, which has the same form
            if self._table == "outbox_events" and not self._has_row(int(row[0]), row[1]):
                return 0
            return max(0, self._new.execute(self._insert, row).rowcount)
        except (sqlite3.IntegrityError, sqlite3.DataError, ValueError, TypeError, KeyError):
            return 0  # a wrong type, state or parent: made of damage, not of ours

    def _has_row(self, seq: int, event: bytes) -> bool:
        """Whether an event's row is there; where it was lost, it is made again of what the event says of itself."""
        if not event:
            return False  # let go by an older version
        said = json.loads(event)
        there = self._new.execute("SELECT event_id, scan_id, type FROM outbox WHERE seq = ?", (seq,)).fetchone()
        if there is not None:
            event_id, scan_id, kind = there
            if event_id != said["id"] and (scan_id is None or event_id != event_id_of(scan_id, kind)):
                # One of the two ids was damaged: the row's, as its scan does not give it.
                sql = "UPDATE OR IGNORE outbox SET event_id = ? WHERE seq = ?"
                return self._new.execute(sql, (said["id"], seq)).rowcount > 0
            return bool(event_id == said["id"])
        topic = BY_TYPE[said["type"]].topic
        scan_id = said["data"].get("scan_id") if isinstance(said["data"], dict) else None
        row = (seq, said["id"], scan_id if self._known(scan_id) else None, said["type"], topic, said["time"])
        sql = "INSERT OR IGNORE INTO outbox (seq, event_id, scan_id, type, topic, created_at) VALUES (?, ?, ?, ?, ?, ?)"
        return self._new.execute(sql, row).rowcount > 0

    def _known(self, scan_id: object) -> bool:
        return self._new.execute("SELECT 1 FROM scans WHERE scan_id = ?", (scan_id,)).fetchone() is not None


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]


def _fold_log(old: sqlite3.Connection) -> None:
    """Bring what the log holds into the copy's own pages."""
    try:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        logger.warning("salvage: the log could not be read to its end: %s", error)


def _loose_rows(view: memoryview, new: sqlite3.Connection, tables: Sequence[str]) -> dict[str, int]:
    """Rows that lie in pages to which no tree leads any more."""
    page_size = int(new.execute("PRAGMA page_size").fetchone()[0])
    keeping: dict[tuple[str, int], _Keeping] = {}
    widths: dict[int, list[str]] = {}
    for table in tables:
        columns = _columns(new, table)
        for width in range(_STORED[table], len(columns) + 1):
            keeping[table, width] = _Keeping(new, table, columns[:width])
            widths.setdefault(width, []).append(table)
    if "outbox" in tables:
        widths.setdefault(_OLD_OUTBOX, []).append("outbox")
        events = _Keeping(new, "outbox_events", _columns(new, "outbox_events"))
    saved = dict.fromkeys(tables, 0)
    for row in pages.rows(view, page_size, frozenset(widths)):
        for table in widths[len(row.values)]:
            values = list(row.values)
            if table in _NUMBERED:
                if values[0] is not None:
                    continue
                values[0] = row.rowid
            elif table == "streams" and values[0] in _COUNTED:
                continue  # the same list
            if table == "outbox" and len(values) == _OLD_OUTBOX:
                event = values.pop(_OLD_EVENT)
                saved[table] += keeping[table, len(values)](values)
                events((row.rowid, event))
            else:
                saved[table] += keeping[table, len(values)](values)
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
