"""The scans as a list for people: what a page shows of each, read beside the writer and parsed by SQLite.

Answers hold a picture; what is listed is taken out of them in the database, so that a page of a list stays small.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from agent.answer.scan import ScanState
from agent.messages.catalogue import RESULT
from agent.records.connection import Connection
from agent.records.verdicts import Verdict, of_scans

_FROM_RESULT = {
    "primary": "$.diagnosis.primary",
    "confidence": "$.diagnosis.confidence",
    "melanoma_risk": "$.diagnosis.melanoma_risk",
    "threshold": "$.operating.threshold",
    "suspicious": "$.operating.suspicious",
    "latency_ms": "$.latency_ms",
    "calibration_state": "$.calibration.state",
    "patient_id": "$.patient_id",
}
_COLUMNS = (
    "seq, scan_id, state, dermoscope_id, image_sha256, path_bytes, received_at, finished_at, reason, sentence, backend,"
    " clock_trusted, metadata,"
    " CASE state WHEN 'answered' THEN json_extract(result, "
    + ", ".join(f"'{path}'" for path in _FROM_RESULT.values())
    + ") END, CASE state WHEN 'answered' THEN json_array_length(result, '$.warnings') ELSE 0 END"
)


@dataclass(frozen=True)
class Listed:
    """A scan without its answer's bulk. What comes out of the answer is None where there is none."""

    seq: int
    scan_id: str
    state: ScanState
    dermoscope_id: str
    image_sha256: str | None
    path_bytes: bytes
    received_at: str
    finished_at: str | None
    reason: str | None
    sentence: str | None
    backend: str | None
    clock_trusted: bool
    metadata: dict[str, Any]
    primary: str | None
    confidence: float | None
    melanoma_risk: float | None
    threshold: float | None
    suspicious: bool | None
    latency_ms: float | None
    calibration_state: str | None
    patient_id: str | None
    warnings: int
    verdict: Verdict | None
    """The one that stands."""


def newest(db: Connection, limit: int, *, before: int | None = None, since: str | None = None) -> list[Listed]:
    """The newest scans, the newest first.

    Args:
        db: a connection that reads.
        limit: how many at most.
        before: only those with a smaller ``seq``.
        since: only those received at this time (as it is stored: RFC 3339, UTC, milliseconds) or later.
    """
    where, values = "seq < ?", cast("list[int | str]", [(1 << 63) - 1 if before is None else before])
    if since is not None:
        # The oldest of them, by the index of times (the plus keeps SQLite from walking the answers instead).
        where += " AND received_at >= ? AND seq >= (SELECT min(+seq) FROM scans WHERE received_at >= ?)"
        values += [since, since]
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM scans WHERE {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - our own words
        (*values, limit),
    ).fetchall()
    return _listed(db, rows)


def one(db: Connection, scan_id: str) -> Listed | None:
    """One scan; None where there is none of this id."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM scans WHERE scan_id = ?", (scan_id,)).fetchall()  # noqa: S608 - ours
    return next(iter(_listed(db, rows)), None)


def by_identity(db: Connection, identity: str) -> Listed | None:
    """The scan of a content; None where it was never seen."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM scans WHERE identity = ?", (identity,)).fetchall()  # noqa: S608 - ours
    return next(iter(_listed(db, rows)), None)


def cloud_state(db: Connection, scan_id: str) -> str | None:
    """How far the event of a scan's result is: ``waiting``, ``acknowledged`` or ``dead``; None where there is none."""
    row = db.execute("SELECT state FROM outbox WHERE scan_id = ? AND type = ?", (scan_id, RESULT.type)).fetchone()
    return None if row is None else str(row[0])


def _listed(db: Connection, rows: Iterable[tuple[Any, ...]]) -> list[Listed]:
    rows = list(rows)
    verdicts = of_scans(db, [row[1] for row in rows])
    return [_one(row, verdicts.get(row[1])) for row in rows]


def _one(row: tuple[Any, ...], verdict: Verdict | None) -> Listed:
    seq, scan_id, state, dermoscope_id, sha256, path, received, finished, reason, sentence, backend = row[:11]
    trusted, metadata, extracted, warnings = row[11:]
    values = [None] * len(_FROM_RESULT) if extracted is None else json.loads(extracted)
    said = json.loads(metadata)
    found = dict(zip(_FROM_RESULT, values, strict=True))
    return Listed(
        seq,
        scan_id,
        ScanState(state),
        dermoscope_id,
        sha256,
        path,
        received,
        finished,
        reason,
        sentence,
        backend,
        bool(trusted),
        said,
        **{**found, "patient_id": found["patient_id"] or said.get("patient_id")},
        warnings=warnings or 0,
        verdict=verdict,
    )
