"""The SQL of what the cloud said: histopathology for scans, and which commands have been heard already (F19)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.records.connection import Connection

COMMANDS_KEPT = 10_000
"""Commands remembered, the newest; a broker repeats what it did not see acknowledged, which is never so old."""


class GroundTruthOutcome(str, Enum):
    """What became of histopathology that came."""

    LINKED = "linked"
    UNKNOWN_SCAN = "unknown_scan"
    """Kept all the same: the scan may come yet, or come again after its database was lost."""
    REPEATED = "repeated"
    """Kept already: nothing was done."""


@dataclass(frozen=True)
class GroundTruthRow:
    """Histopathology as it is kept."""

    seq: int
    event_id: str
    scan_id: str
    diagnosis: str
    data: str
    """All that came, as JSON."""
    sent_at: str | None
    received_at: str


def keep(
    db: Connection, *, event_id: str, scan_id: str, diagnosis: str, data: str, sent_at: str | None, received_at: str
) -> GroundTruthOutcome:
    """Keep what the pathologist found for a scan, once, whether or not there is the scan."""
    kept = db.execute(
        "INSERT INTO ground_truth (event_id, scan_id, diagnosis, data, sent_at, received_at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (event_id) DO NOTHING RETURNING seq",
        (event_id, scan_id, diagnosis, data, sent_at, received_at),
    ).fetchall()
    if not kept:
        return GroundTruthOutcome.REPEATED
    known = db.execute("SELECT 1 FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()
    return GroundTruthOutcome.UNKNOWN_SCAN if known is None else GroundTruthOutcome.LINKED


def of_scan(db: Connection, scan_id: str) -> list[GroundTruthRow]:
    """What pathologists found for a scan, oldest first: the last one stands."""
    columns = ", ".join(GroundTruthRow.__dataclass_fields__)
    rows = db.execute(f"SELECT {columns} FROM ground_truth WHERE scan_id = ? ORDER BY seq", (scan_id,))  # noqa: S608
    return [GroundTruthRow(*row) for row in rows.fetchall()]


def hear(db: Connection, *, event_id: str, name: str, data: str, received_at: str) -> bool:
    """Note a command; False where it was noted before, so that it is obeyed once however often it comes."""
    noted = db.execute(
        "INSERT INTO commands_seen (event_id, name, data, received_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (event_id) DO NOTHING RETURNING seq",
        (event_id, name, data, received_at),
    ).fetchall()
    if not noted:
        return False
    db.execute("DELETE FROM commands_seen WHERE seq <= ?", (noted[0][0] - COMMANDS_KEPT,))
    return True
