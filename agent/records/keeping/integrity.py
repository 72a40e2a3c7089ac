"""The database is read through once a day, a table at a time, beside the agent: to find damage while there are backups.

At each start ``quick_check`` reads it as a whole (`agent.records.opening`). A running agent cannot exchange its
database; what is found here is said loudly, and put right at the next start: quarantine, salvage, and an alarm (F10).
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Final

from agent.records.errors import StoreBusy, StoreClosed, StoreError
from agent.records.store import Store

log = logging.getLogger(__name__)

AGAIN_S: Final = 24 * 3600.0
BETWEEN_S: Final = 60.0
"""Between two tables: a look at a large one holds back the log's end for as long as it takes (F08)."""
_TEXTS: Final = {
    "scans": ("result", "scan_id"),
    "outbox_events": ("event", "seq"),
    "ground_truth": ("data", "event_id"),
}


class Integrity:
    """Looks through the tables, one at each call that is due."""

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self._monotonic = store, monotonic
        self._left: list[str] = []
        self._next = monotonic() + BETWEEN_S
        self.damage: str | None = None
        """What was found, in one sentence; None where nothing was."""
        self.rounds = 0
        """How often all tables were looked through since the start."""

    def look(self) -> None:
        """Look through the next table, where one is due."""
        now = self._monotonic()
        if now < self._next:
            return
        try:
            found = self._look()
        except (StoreBusy, StoreClosed):  # which says nothing about it
            self._next = now + BETWEEN_S
            return
        except (StoreError, sqlite3.DatabaseError) as error:
            found = str(error)
        self._next = now + (BETWEEN_S if self._left else AGAIN_S)
        self.rounds += not self._left
        if found is not None and self.damage is None:
            self.damage = (
                f"the database is damaged ({found}): restart the agent, which carries over what can be read, or "
                "restore a backup; then check the disk"
            )
            log.error("%s", self.damage)

    def _look(self) -> str | None:
        with self._store.reading(anew=True) as db:
            if not self._left:
                rows = db.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
                self._left = [str(row[0]) for row in rows if not str(row[0]).startswith("sqlite_")]
            table = self._left.pop()
            complaints = [str(row[0]) for row in db.execute(f"PRAGMA main.integrity_check('{table}')")]
            if complaints == ["ok"] and table in _TEXTS:
                complaints = _unreadable(db, table)
        return None if complaints in ([], ["ok"]) else f"{table}: {'; '.join(complaints[:3])}"


def _unreadable(db: sqlite3.Connection, table: str) -> list[str]:
    """Rows whose long texts are no JSON any more: SQLite has no checksums, and sees nothing of it."""
    column, known = _TEXTS[table]
    found = db.execute(
        f"SELECT {known} FROM main.{table} WHERE {column} IS NOT NULL AND length({column}) > 0"  # noqa: S608 - ours
        f" AND NOT json_valid(CAST({column} AS TEXT)) LIMIT 3"
    ).fetchall()
    complaints = [f"{column} of {row[0]} is not what was written" for row in found]
    if table == "outbox_events":
        found = db.execute(
            "SELECT event_id FROM main.outbox WHERE state <> 'acknowledged'"
            " AND seq NOT IN (SELECT seq FROM main.outbox_events) LIMIT 3"
        ).fetchall()
        complaints += [f"event {row[0]} of the outbox has lost its bytes" for row in found]
    return complaints
