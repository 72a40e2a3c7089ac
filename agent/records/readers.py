"""The reading connections of the running agent: a few, opened once and lent to whoever reads.

To open one takes as long as most of what is then read (a millisecond). And while another connection of the process
holds a lock, SQLite keeps the descriptor of each that was closed: an agent that opens them as they are asked for comes
to have as many as were ever open at once, which grows for weeks.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.records.errors import StoreBusy, StoreClosed
from agent.records.reading import connect_reading, readable
from agent.records.sealing import Seal

READERS: Final = 3
"""Who reads beyond these waits: Python runs one of them at a time, but not while SQLite waits for the disk."""
CACHE_KIB: Final = 512
"""Of each: the upper pages of indexes, and the rows looked at now. The rest is in the kernel's cache."""
PATIENCE_S: Final = 10.0


class Readers:
    """Reading connections to one database, which is there and of this version. Any thread may borrow one."""

    def __init__(self, state_dir: Path, seal: Seal) -> None:
        """Nothing is opened before somebody reads. ``seal``: what patient fields are read with."""
        self._state_dir, self._seal = state_dir, seal
        self._free: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        """None is a place whose connection had to be given up: whoever comes to it opens another."""
        self._changing = threading.Lock()
        self._opened = 0
        self._closed = False

    @contextmanager
    def reading(self, *, anew: bool = False) -> Iterator[sqlite3.Connection]:
        """Borrow a connection that can change nothing. All rows are to be fetched inside, and soon (F08).

        ``anew``: one that has nothing in its cache, so that what is read is what the file holds.

        Raises:
            StoreError: the database cannot be read.
            StoreBusy: all connections are lent for long.
            StoreClosed: the store is closed.
        """
        self._open_all()
        db = self._borrow()
        kept = None
        try:
            with readable(self._state_dir):
                if db is not None and anew:
                    db.close()
                    db = None
                db = db or self._connect()
                yield db
            kept = db
        finally:
            if kept is None and db is not None:
                db.close()  # whoever broke off may have left a statement, and with it a snapshot that blocks the log
            self._free.put(kept)

    def close(self) -> None:
        """Close them, once who reads now is through; nobody reads from now on. A second call does nothing."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
        for _ in range(self._opened):
            if (db := self._borrow()) is not None:
                db.close()

    def _open_all(self) -> None:
        """At the first reading, so that there are as many descriptors then as there will ever be."""
        with self._changing:
            if self._closed:
                raise StoreClosed("the store is closed")
            while self._opened < READERS:
                with readable(self._state_dir):
                    self._free.put(self._connect())
                self._opened += 1

    def _borrow(self) -> sqlite3.Connection | None:
        try:
            return self._free.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise StoreBusy("the database is read by others for too long: try again") from None

    def _connect(self) -> sqlite3.Connection:
        db = connect_reading(self._state_dir, self._seal)
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return db
