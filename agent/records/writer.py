"""The one thread that owns the database connection: group commits, back-off while locked, checkpoints.

Everything queued while a commit runs goes into the next one, so that a burst shares one fsync. A promise (future) is
kept only after COMMIT returned, which with ``synchronous=FULL`` is after the fsync (F11).
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any, TypeVar

from agent.records.checkpoint import Checkpointer, Rarely
from agent.records.errors import StoreClosed, StoreFaulty, StoreFull

logger = logging.getLogger(__name__)
T = TypeVar("T")

MOST_TOGETHER = 256
"""Operations of one transaction at most: enough for any burst, small enough for a short rollback."""
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0


class Trouble(Enum):
    """What a database error is about, and so who must bear it."""

    BUSY = "busy"
    """Someone else holds the lock: the batch waits (F07)."""
    FULL = "full"
    """The quota or the disk: the batch fails, its owners pause (F06)."""
    FILE = "file"
    """The file or the medium under it: the batch fails."""
    OPERATION = "operation"
    """This statement: it fails alone."""


_SAID = (
    # By text, as sqlite3 in Python 3.10 does not give the error code.
    ("database is locked", Trouble.BUSY),
    ("database table is locked", Trouble.BUSY),
    ("locking protocol", Trouble.BUSY),
    ("database or disk is full", Trouble.FULL),
    ("disk I/O error", Trouble.FILE),
    ("malformed", Trouble.FILE),
    ("not a database", Trouble.FILE),
    ("unable to open database file", Trouble.FILE),
    ("readonly database", Trouble.FILE),
)


def trouble_of(error: BaseException) -> Trouble:
    """Who must bear this error."""
    if isinstance(error, sqlite3.DatabaseError):
        text = str(error)
        return next((trouble for said, trouble in _SAID if said in text), Trouble.OPERATION)
    return Trouble.OPERATION


class Mode(Enum):
    """How an operation is run."""

    READING = "reading"
    WRITING = "writing"
    """In a transaction that it may share with others."""
    ALONE = "alone"
    """Outside of any transaction: for what SQLite does only there (a checkpoint, VACUUM)."""


@dataclass(frozen=True)
class _Operation:
    run: Callable[[sqlite3.Connection], Any]
    promise: Future[Any]
    mode: Mode


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class Writer:
    """Runs operations on a connection, on a thread of its own. The connection is handed over and closed by it.

    Args:
        connection: in autocommit mode (``isolation_level=None``), usable from another thread.
        checkpointer: when and how the write-ahead log goes into the database.
        clock: monotonic seconds.
    """

    def __init__(
        self, connection: sqlite3.Connection, checkpointer: Checkpointer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._checkpointer = checkpointer
        self._clock = clock
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._give_up_at = float("inf")
        self._rarely = Rarely(logger, 30.0, clock)
        self.commits = 0
        self.busy_retries = 0
        self.alone = False
        """Whether an operation is at work that all others wait for, and that takes as long as the database is large."""
        self._thread = threading.Thread(target=self._loop, name="dermascan-store", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> Future[T]:
        """Queue an operation. Its promise is kept when it is committed, or holds the error for which it is not."""
        return self._put(run, Mode.WRITING if writes else Mode.READING)

    def submit_alone(self, run: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Queue an operation that SQLite does only outside of transactions; all others wait for its end."""
        return self._put(run, Mode.ALONE)

    def _put(self, run: Callable[[sqlite3.Connection], T], mode: Mode) -> Future[T]:
        promise: Future[T] = Future()
        with self._gate:
            if self._closed:
                raise StoreClosed("the store is closed")
            self._queue.put(_Operation(run, promise, mode))
        return promise

    def close(self, timeout_s: float) -> None:
        """Do what is queued, checkpoint, close. What a foreign lock still holds up after ``timeout_s`` fails."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._give_up_at = self._clock() + timeout_s
                self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while True:
            batch, last = self._take()
            for mode, group in groupby(batch, key=lambda operation: operation.mode):
                for together in [list(group)] if mode is not Mode.ALONE else [[one] for one in group]:
                    self._do(together, mode)
            try:
                self._checkpointer.look(self._connection, idle=not batch, closing=last)
            except sqlite3.Error as error:
                self._rarely.warning("checkpoint failed: %s", error)
            if last:
                break
        try:
            self._connection.close()
        except sqlite3.Error as error:
            logger.warning("closing the database failed: %s", error)

    def _take(self) -> tuple[list[_Operation], bool]:
        """All that is queued (up to a limit), waiting for the first; empty when it is time for a checkpoint."""
        batch: list[_Operation] = []
        try:
            operation = self._queue.get(timeout=self._checkpointer.due_in_s())
            while operation is not None:
                batch.append(operation)
                if len(batch) == MOST_TOGETHER:
                    return batch, False
                operation = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _do(self, batch: list[_Operation], mode: Mode) -> None:
        """Run a batch until it is committed or has failed for good, then keep its promises."""
        outcomes: list[Any]
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                outcomes = self._run(batch, mode)
                if mode is not Mode.READING:
                    self.commits += 1
                    self._checkpointer.written()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must live on (F07)
                self._roll_back()
                if trouble_of(error) is Trouble.BUSY and self._clock() < self._give_up_at:
                    self.busy_retries += 1
                    self._rarely.warning("the database is locked by another process; %d writes wait for it", len(batch))
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                    continue
                outcomes = [_Failed(self._verdict(error))] * len(batch)
                break
        for operation, outcome in zip(batch, outcomes, strict=True):
            _keep(operation.promise, outcome)

    def _run(self, batch: list[_Operation], mode: Mode) -> list[Any]:
        if mode is Mode.ALONE:
            self.alone = True
            try:
                return [operation.run(self._connection) for operation in batch]
            finally:
                self.alone = False
        execute = self._connection.execute
        outcomes: list[Any] = []
        # IMMEDIATE: a deferred transaction that reads and then writes fails at once whatever the busy timeout (F07).
        execute("BEGIN IMMEDIATE" if mode is Mode.WRITING else "BEGIN")
        for operation in batch:
            execute("SAVEPOINT operation")
            try:
                outcomes.append(operation.run(self._connection))
            except Exception as error:
                if trouble_of(error) is not Trouble.OPERATION:
                    raise
                execute("ROLLBACK TO operation")
                outcomes.append(_Failed(error))
            execute("RELEASE operation")
        execute("COMMIT")
        return outcomes

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:  # a full disk may have ended it already
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._rarely.warning("rolling back failed: %s", error)

    def _verdict(self, error: BaseException) -> BaseException:
        trouble = trouble_of(error)
        if trouble is Trouble.FULL:
            self._rarely.warning("the store is full (quota or disk): nothing can be written until there is room")
            return StoreFull(f"the store is full ({error}): raise [store] quota_mb or make room on the disk")
        if trouble is Trouble.BUSY:
            return StoreClosed("the store was closed while another process held the database locked: not written")
        if trouble is Trouble.FILE:
            self._rarely.error("the database cannot be used: %s", error)
            return StoreFaulty(f"the database cannot be used ({error}): check the disk, then start the agent again")
        return error


def _keep(promise: Future[Any], outcome: object) -> None:
    try:
        if isinstance(outcome, _Failed):
            promise.set_exception(outcome.error)
        else:
            promise.set_result(outcome)
    except InvalidStateError:
        pass  # cancelled by who asked; what was written stays written
