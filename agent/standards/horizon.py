"""Where the export folder begins: what was finished before somebody wished for it is not written unasked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.records.errors import StoreError
from agent.records.reading import open_reading


@dataclass(frozen=True)
class Horizon:
    """Which scans there were when the agent began to export, told before it took up another capture."""

    last_seq: int
    unfinished: tuple[int, ...]
    """Those up to ``last_seq`` that were not finished yet: they are exported when they are."""

    @classmethod
    def now(cls, state_dir: Path) -> Horizon:
        """As it is; none where there is no database that can be read."""
        try:
            with open_reading(state_dir) as db:
                last = db.execute("SELECT coalesce(max(seq), 0) FROM scans").fetchone()[0]
                rows = db.execute("SELECT seq FROM scans WHERE state = 'received'").fetchall()
        except StoreError:
            return cls(0, ())
        return cls(last, tuple(row[0] for row in rows))
