"""What the store does for those who look after it: less is kept of old scans, patients are erased, fields sealed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from agent.records import sealed_rows
from agent.records.connection import Connection, set_quota
from agent.records.sealed_rows import Sealed
from agent.records.sealing import PLAIN, Seal
from agent.records.writer import Writer

T = TypeVar("T")


class KeepingSide:
    """The part of the store that gives things up; see `agent.records.store.Store` for its rules."""

    _writer: Writer
    _seal: Seal = PLAIN

    @property
    def seal(self) -> Seal:
        """What patient fields are written and read with."""
        return self._seal

    def seal_some(self, limit: int) -> Future[Sealed]:
        """Seal the next rows that are not sealed with the newest key."""
        return self._writer.submit(lambda db: sealed_rows.seal_some(db, self._seal, limit))

    def change(self, run: Callable[[Connection], T]) -> Future[T]:
        """Do something of `agent.records.keeping` in a transaction."""
        return self._writer.submit(run)

    def look(self, run: Callable[[Connection], T]) -> T:
        """Read something for `agent.records.keeping`."""
        return self._writer.submit(run, writes=False).result()

    def use_quota(self, quota_mb: int) -> Future[None]:
        """Another quota for the database from now on, in MiB (F06)."""
        return self._writer.submit_alone(lambda db: set_quota(db, quota_mb))

    def alone(self, run: Callable[[Any], T]) -> Future[T]:
        """Do something of `agent.records.keeping` that SQLite does only outside of transactions."""
        return self._writer.submit_alone(run)
