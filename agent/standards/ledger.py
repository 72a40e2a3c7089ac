"""What was written into the export folder, so that a crash repeats nothing and forgets nothing.

It is a database of its own, of the process that exports: the agent's has one writer (F09), which waits for nobody.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from agent.records.results import sync_folder
from agent.standards.export import Format

log = logging.getLogger(__name__)

NAME: Final = "ledger.db"
SET_ASIDE: Final = "ledger.damaged"
BUSY_S: Final = 10.0
MAX_ATTEMPTS: Final = 5
"""Tries at one state of a scan in one format before it is given up: some may end with the whole process."""
_APPLICATION_ID: Final = 0x44534558
_TABLES: Final = f"""
PRAGMA application_id = {_APPLICATION_ID};
CREATE TABLE formats (format TEXT PRIMARY KEY) STRICT;
CREATE TABLE exports (
    scan_id TEXT NOT NULL,
    format TEXT NOT NULL,
    revision TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('before', 'begun', 'written', 'nothing', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    files TEXT NOT NULL DEFAULT '{{}}',
    sentence TEXT,
    PRIMARY KEY (scan_id, format)
) STRICT, WITHOUT ROWID;
"""


class State(str, Enum):
    """How a scan's export in one format stands."""

    BEFORE = "before"
    """The scan is older than the wish to export: it is not written unasked."""
    BEGUN = "begun"
    WRITTEN = "written"
    NOTHING = "nothing"
    """In this format there is nothing to say of it."""
    FAILED = "failed"


@dataclass(frozen=True)
class Finished:
    """A finished scan as the agent's database shows it now; ``revision`` changes with all that an export says of it."""

    scan_id: str
    revision: str


class Ledger:
    """The ledger of one export folder; opened by one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Open or make ``folder/ledger.db``; one that is damaged is set aside, and everything is written once more.

        Raises:
            OSError: the folder cannot be made.
            sqlite3.Error: the disk is full or broken.
        """
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = folder
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # full, locked, or not to be opened: that is no damage
            number = sum(1 for _ in folder.glob(f"{SET_ASIDE}*"))
            (folder / NAME).replace(folder / f"{SET_ASIDE}-{number + 1}")
            for rest in ("-wal", "-shm", "-journal"):
                (folder / f"{NAME}{rest}").unlink(missing_ok=True)
            log.error("the export ledger was damaged and was set aside: what it knew of is exported once more")  # noqa: TRY400
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        path = self._folder / NAME
        if not path.exists():
            self._make(path)
        db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
        try:
            # One rollback journal and full syncs: a row says that a file is durable, and must be so itself (F11).
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA journal_mode = DELETE")
            found = db.execute("PRAGMA application_id").fetchone()[0]
            if found != _APPLICATION_ID or db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("not a ledger")  # noqa: TRY301
        except BaseException:
            db.close()
            raise
        return db

    def _make(self, path: Path) -> None:
        """Under another name first: an empty file in the ledger's place is damage, and never taken for a new one."""
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(f"BEGIN;{_TABLES}COMMIT;")
        new.replace(path)
        sync_folder(self._folder)

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def begin_formats(self, formats: Iterable[Format], older: Callable[[], Iterable[Finished]]) -> None:
        """Where a format is wished for the first time: what was finished before is not written unasked.

        After damage it is, since nobody knows any more what of it was: files that are written twice are the same.
        """
        new = [one.value for one in formats if not self._has(one)]
        if not new:
            return
        known = [] if any(self._folder.glob(f"{SET_ASIDE}*")) else list(older())
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for name in new:
                self._db.executemany(
                    "INSERT INTO exports (scan_id, format, revision, state) VALUES (?, ?, ?, 'before')"
                    " ON CONFLICT DO NOTHING",
                    ((one.scan_id, name, one.revision) for one in known),
                )
                self._db.execute("INSERT INTO formats VALUES (?)", (name,))
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def _has(self, wanted: Format) -> bool:
        return self._db.execute("SELECT 1 FROM formats WHERE format = ?", (wanted.value,)).fetchone() is not None

    def due(self, one: Finished, wanted: Format) -> bool:
        """Whether a scan, as it is now, is still to be written in a format."""
        row = self._row(one.scan_id, wanted)
        if row is None or row[0] != one.revision:
            return True
        return row[1] in (State.BEGUN.value, State.FAILED.value) and row[2] < MAX_ATTEMPTS

    def begin(self, one: Finished, wanted: Format) -> None:
        """Count a try, before it is made: one that ends with the process counts, too."""
        row = self._row(one.scan_id, wanted)
        attempts = row[2] if row is not None and row[0] == one.revision else 0
        self._db.execute(
            "INSERT INTO exports (scan_id, format, revision, state, attempts) VALUES (?, ?, ?, 'begun', ?)"
            " ON CONFLICT DO UPDATE SET revision = excluded.revision, state = 'begun', attempts = excluded.attempts",
            (one.scan_id, wanted.value, one.revision, attempts + 1),
        )

    def put_back(self, one: Finished, wanted: Format) -> None:
        """The try failed through no fault of the scan's (a full disk): it does not count."""
        self._db.execute(
            "UPDATE exports SET attempts = max(0, attempts - 1) WHERE scan_id = ? AND format = ?",
            (one.scan_id, wanted.value),
        )

    def end(
        self,
        one: Finished,
        wanted: Format,
        state: State,
        files: Mapping[str, str] | None = None,
        sentence: str | None = None,
    ) -> None:
        """Note how a try ended; ``files`` are the names written, each with its content's sha256."""
        self._db.execute(
            "UPDATE exports SET state = ?, files = coalesce(?, files), sentence = ? WHERE scan_id = ? AND format = ?",
            (state.value, None if files is None else json.dumps(files), sentence, one.scan_id, wanted.value),
        )

    def files(self, scan_id: str, wanted: Format) -> dict[str, str]:
        """The files last written of a scan, with their contents' sha256."""
        row = self._row(scan_id, wanted)
        return {} if row is None else dict(json.loads(row[3]))

    def given_up(self) -> int:
        """How many exports are not tried any more."""
        row = self._db.execute(
            "SELECT count(*) FROM exports WHERE state IN ('begun', 'failed') AND attempts >= ?", (MAX_ATTEMPTS,)
        ).fetchone()
        return int(row[0])

    def _row(self, scan_id: str, wanted: Format) -> tuple[str, str, int, str] | None:
        row: tuple[str, str, int, str] | None = self._db.execute(
            "SELECT revision, state, attempts, files FROM exports WHERE scan_id = ? AND format = ?",
            (scan_id, wanted.value),
        ).fetchone()
        return row
