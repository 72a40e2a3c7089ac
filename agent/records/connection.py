"""What the records' SQL asks of a database connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Connection(Protocol):
    """``sqlite3`` and ``apsw`` both have it, so the power-cut test (F11) runs the very statements of the product."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement and return a cursor with ``fetchone`` and ``fetchall``, rows as tuples."""
        ...
