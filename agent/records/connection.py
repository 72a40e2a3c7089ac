"""What the records' SQL asks of a database connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Connection(Protocol):
    """``sqlite3`` and ``apsw`` both have it, so the power-cut test (F11) runs the very statements of the product."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement and return a cursor with ``fetchone`` and ``fetchall``, rows as tuples."""
        ...


def set_quota(db: Connection, quota_mb: int) -> None:
    """How large the database may become, in MiB: writes beyond it fail whole, before the disk is full (F06)."""
    page_size = int(db.execute("PRAGMA page_size", ()).fetchone()[0])
    db.execute(f"PRAGMA max_page_count = {max(64, quota_mb * 1024 * 1024 // page_size)}", ())
