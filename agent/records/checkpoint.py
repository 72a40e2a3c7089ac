"""When and how the write-ahead log goes into the database (F08), by the connection that also writes (F09)."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

WAL_LIMIT_BYTES = 4 * 1024 * 1024
"""Beyond it a PASSIVE checkpoint is due; also ``journal_size_limit``, so the log shrinks to it when it starts anew.

It is not cut shorter: writing over allocated blocks makes an fsync cheaper than growing a file.
"""
WAL_ALARM_BYTES = 64 * 1024 * 1024
"""Beyond it the checkpoint is TRUNCATE, which waits for readers for ``TRUNCATE_WAIT_MS``."""
IDLE_S = 2.0
"""So long after the last commit a checkpoint costs nobody anything."""
BLOCKED_PAUSE_S = (1.0, 60.0)
"""Pause after a blocked checkpoint, doubling from the first to the second."""
TRUNCATE_WAIT_MS = 250


class Rarely:
    """Logs the same trouble at most once per ``interval_s``, and says how often it was kept quiet (F28)."""

    def __init__(self, log: logging.Logger, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._interval_s = interval_s
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}

    def warning(self, message: str, *values: object) -> None:
        """Log at WARNING, unless this message was just logged."""
        self._say(logging.WARNING, message, values)

    def error(self, message: str, *values: object) -> None:
        """Log at ERROR, unless this message was just logged."""
        self._say(logging.ERROR, message, values)

    def _say(self, level: int, message: str, values: tuple[object, ...]) -> None:
        now = self._clock()
        at, quiet = self._last.get(message, (float("-inf"), 0))
        if now - at < self._interval_s:
            self._last[message] = (at, quiet + 1)
            return
        self._last[message] = (now, 0)
        again = f" ({quiet} more since the last such line)" if quiet else ""
        self._log.log(level, message + again, *values)


class Checkpointer:
    """Decides after each batch, and when idle, whether to checkpoint; reads what SQLite returns, as it raises nothing.

    Args:
        wal: the ``-wal`` file.
        clock: monotonic seconds.
    """

    def __init__(self, wal: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._wal = wal
        self._clock = clock
        self._rarely = Rarely(logger, 300.0, clock)
        self._dirty = False
        self._last_write = 0.0
        self._not_before = float("-inf")
        self._pause_s = BLOCKED_PAUSE_S[0]
        self.blocked = 0
        """Checkpoints that a reader or a lock kept from finishing."""
        self.done = 0

    def wal_bytes(self) -> int:
        """Size of the log file now; 0 where there is none."""
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def written(self) -> None:
        """Tell that something was committed."""
        self._dirty = True
        self._last_write = self._clock()

    def due_in_s(self) -> float | None:
        """Seconds until a checkpoint is due if nothing is written meanwhile; None: never."""
        if not self._dirty:
            return None
        return max(0.0, max(self._last_write + IDLE_S, self._not_before) - self._clock())

    def look(self, db: sqlite3.Connection, *, idle: bool, closing: bool) -> None:
        """Checkpoint where it is due. Raises ``sqlite3.Error`` on a broken file."""
        if not self._dirty:
            return
        size = self.wal_bytes()
        if not closing and (self._clock() < self._not_before or (not idle and size <= WAL_LIMIT_BYTES)):
            return
        if size > WAL_ALARM_BYTES or closing:
            before = db.execute("PRAGMA busy_timeout").fetchone()[0]
            db.execute(f"PRAGMA busy_timeout = {TRUNCATE_WAIT_MS}")
            try:
                self._checkpoint(db, "TRUNCATE", size)
            finally:
                db.execute(f"PRAGMA busy_timeout = {before}")
        else:
            self._checkpoint(db, "PASSIVE", size)

    def _checkpoint(self, db: sqlite3.Connection, mode: str, size: int) -> None:
        try:
            busy, frames, moved = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error:
            self._put_off()
            raise
        # PASSIVE says busy=0 even when a reader pins the log: only the two counts tell.
        if busy or moved < frames:
            self.blocked += 1
            self._put_off()
            self._rarely.warning(
                "checkpoint blocked, the log has %d bytes: another process reads the database and does not end", size
            )
            return
        self.done += 1
        self._dirty = False
        self._pause_s, self._not_before = BLOCKED_PAUSE_S[0], float("-inf")

    def _put_off(self) -> None:
        self._not_before = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, BLOCKED_PAUSE_S[1])
