"""The SQL of verdicts: what a clinician or a pathologist said of a scan, each kept for good and told to the cloud.

A verdict belongs to the scan that it names and to no other, whatever comes later. A later verdict supersedes the one
before it; both stay. One that agrees with the model counts as much as one that does not: both travel.
The event says nothing of who gave it, and holds none of its free text (F30).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, get_args

from agent.answer.scan import ScanState
from agent.messages.catalogue import FEEDBACK
from agent.messages.envelope import Sender, event_bytes
from agent.messages.parts import DiagnosisClass
from agent.messages.verdicts import Feedback, VerdictSource
from agent.records import audit, outbox
from agent.records.audit import SHELL, Actor, AuditAction, Entry
from agent.records.connection import Connection
from agent.records.errors import NotEnded, UnknownScan, VerdictOverdue, VerdictRefused
from agent.records.messages import event_id_of
from agent.records.sealing import NOTE, PLAIN, Seal

DIAGNOSES: tuple[str, ...] = get_args(DiagnosisClass)
SOURCES: tuple[str, ...] = get_args(VerdictSource)


class Unsaid(Enum):
    """Nothing was said, which is something else than None."""

    UNSAID = "unsaid"


UNSAID: Final = Unsaid.UNSAID


@dataclass(frozen=True)
class Given:
    """A verdict as it was given, before it is joined to its scan."""

    verdict_id: str
    """Made once by who gives it: the same id a second time is the same verdict (F19)."""
    scan_id: str
    diagnosis: str | None
    """None: the verdict that stands is withdrawn."""
    source: str
    by: str | None
    note: str | None
    at: str
    """RFC 3339, UTC, milliseconds."""
    clock_trusted: bool
    actor: Actor | None = None
    """Who is known to have sent it, for the audit; None: a command on the device."""
    expected: str | Unsaid | None = UNSAID
    """The verdict that stood when this one was thought of (None: none): where another stands, this one is refused."""


@dataclass(frozen=True)
class Verdict:
    """A verdict as it is kept."""

    seq: int
    """Order of giving, and the event's number in its topic."""
    verdict_id: str
    scan_id: str
    image_sha256: str | None
    diagnosis: str | None
    """None: this one withdraws the verdict before it."""
    source: str
    agreement: str
    """``confirmation``, ``correction``, ``no_suggestion`` (of a refused capture) or ``withdrawn``."""
    supersedes: str | None
    suggestion: dict[str, Any] | None
    """What the model had said, as it stood then."""
    given_by: str | None
    note: str | None
    given_at: str
    clock_trusted: bool


_COLUMNS = ", ".join(Verdict.__dataclass_fields__)


@dataclass(frozen=True)
class VerdictCounts:
    """How often the model was found right, by the verdict that stands for each scan and was not withdrawn."""

    confirmation: int
    correction: int
    no_suggestion: int


def give(db: Connection, sender: Sender, given: Given, seal: Seal = PLAIN) -> str:
    """Keep a verdict and put its event into the outbox; returns its id. A repeat changes nothing.

    Raises:
        UnknownScan: there is no such scan.
        VerdictRefused: the scan has not ended yet, the class or source is none, the id is another verdict's, or there
            is nothing to withdraw.
        VerdictOverdue: another verdict stands than the one that it was said to be given after.
    """
    if given.diagnosis is not None and given.diagnosis not in DIAGNOSES:
        raise VerdictRefused(f"diagnosis {given.diagnosis!r} is none of {', '.join(DIAGNOSES)}")
    if given.source not in SOURCES:
        raise VerdictRefused(f"source {given.source!r} is none of {', '.join(SOURCES)}")
    kept = db.execute(
        "SELECT scan_id, diagnosis, source FROM verdicts WHERE verdict_id = ?", (given.verdict_id,)
    ).fetchone()
    if kept is not None:
        if kept != (given.scan_id, given.diagnosis, given.source):
            raise VerdictRefused(f"verdict {given.verdict_id} is kept already, and says something else")
        return given.verdict_id
    image_sha256, finished_at, suggestion = _judged(db, given.scan_id)
    earlier = db.execute(
        "SELECT verdict_id, diagnosis FROM verdicts WHERE scan_id = ? ORDER BY seq DESC LIMIT 1", (given.scan_id,)
    ).fetchone()
    _check_order(given, None if earlier is None else earlier[0], withdrawn=earlier is None or earlier[1] is None)
    if given.diagnosis is None:
        agreement = "withdrawn"
    elif suggestion is None:
        agreement = "no_suggestion"
    else:
        agreement = "confirmation" if suggestion["primary"] == given.diagnosis else "correction"
    (seq,) = db.execute(
        "INSERT INTO verdicts (verdict_id, scan_id, image_sha256, diagnosis, source, agreement, supersedes, suggestion,"
        " given_by, note, given_at, clock_trusted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
        (
            given.verdict_id,
            given.scan_id,
            image_sha256,
            given.diagnosis,
            given.source,
            agreement,
            None if earlier is None else earlier[0],
            None if suggestion is None else json.dumps(suggestion, ensure_ascii=False),
            given.by,
            None if given.note is None else seal.seal(given.note, given.verdict_id, NOTE),
            given.at,
            # No verdict is older than its scan's end: a time before it shows a clock that was set wrong (F16).
            int(given.clock_trusted and given.at >= finished_at),
        ),
    ).fetchall()[0]
    _post(db, sender, _one(db, seq))
    audit.append(db, _audited(given))
    return given.verdict_id


def of_scan(db: Connection, scan_id: str) -> list[Verdict]:
    """A scan's verdicts, oldest first: the last one stands."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM verdicts WHERE scan_id = ? ORDER BY seq", (scan_id,))  # noqa: S608
    return [_verdict(row) for row in rows.fetchall()]


def of_scans(db: Connection, scan_ids: Iterable[str]) -> dict[str, Verdict]:
    """The verdict that stands for each of some scans; one that withdraws stands, too."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM verdicts WHERE scan_id IN (SELECT value FROM json_each(?)) ORDER BY seq",  # noqa: S608
        (json.dumps(list(scan_ids)),),
    )
    return {one.scan_id: one for one in map(_verdict, rows.fetchall())}


def after(db: Connection, seq: int, limit: int) -> list[Verdict]:
    """The verdicts that were given after one, in order."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM verdicts WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))  # noqa: S608
    return [_verdict(row) for row in rows.fetchall()]


def last_seq(db: Connection) -> int:
    """Of the verdict that was given last; 0 where there was none."""
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM verdicts", ()).fetchone()[0])


def counts(db: Connection) -> VerdictCounts:
    """How often the model was found right; superseded verdicts do not count."""
    found = dict(
        db.execute(
            "SELECT agreement, count(*) FROM verdicts AS one WHERE NOT EXISTS"
            " (SELECT 1 FROM verdicts AS later WHERE later.supersedes = one.verdict_id) GROUP BY agreement",
            (),
        ).fetchall()
    )
    return VerdictCounts(**{name: found.get(name, 0) for name in VerdictCounts.__dataclass_fields__})


def post_missing_events(db: Connection, sender: Sender) -> int:
    """Build again the events of verdicts that have none (after a salvage: F10); returns how many."""
    sql = (
        "SELECT event_id FROM outbox WHERE type = ?"
        " AND (state = 'acknowledged' OR seq IN (SELECT seq FROM outbox_events))"
    )
    have = {row[0] for row in db.execute(sql, (FEEDBACK.type,)).fetchall()}
    rows = db.execute(f"SELECT {_COLUMNS} FROM verdicts ORDER BY seq", ()).fetchall()  # noqa: S608
    missing = [one for one in map(_verdict, rows) if event_id_of(one.verdict_id, FEEDBACK.type) not in have]
    for one in missing:
        _post(db, sender, one)
    return len(missing)


def feedback_of(verdict: Verdict) -> Feedback:
    """What the cloud is told of a verdict: not who gave it, and nothing in their own words."""
    return Feedback.model_validate(
        {
            "verdict_id": verdict.verdict_id,
            "scan_id": verdict.scan_id,
            "image_sha256": verdict.image_sha256,
            "diagnosis": verdict.diagnosis,
            "source": verdict.source,
            "agreement": verdict.agreement,
            "supersedes": verdict.supersedes,
            "suggestion": verdict.suggestion,
            "given_at": verdict.given_at,
            "clock_trusted": verdict.clock_trusted,
        }
    )


def _check_order(given: Given, standing: str | None, *, withdrawn: bool) -> None:
    if not isinstance(given.expected, Unsaid) and given.expected != standing:
        raise VerdictOverdue(f"scan {given.scan_id} has another verdict by now: look at it, then give yours")
    if given.diagnosis is None and withdrawn:
        raise VerdictRefused(f"scan {given.scan_id} has no verdict that could be withdrawn")


def _judged(db: Connection, scan_id: str) -> tuple[str | None, str, dict[str, Any] | None]:
    """The scan's image_sha256, when it ended, and what the model had suggested (None where it was refused)."""
    row = db.execute("SELECT state, image_sha256, finished_at, result FROM scans WHERE scan_id = ?", (scan_id,))
    if (found := row.fetchone()) is None:
        raise UnknownScan(f"scan {scan_id} is not in the database: copy its id from dermascan scans --json")
    state, image_sha256, finished_at, result = found
    if state == ScanState.RECEIVED.value:
        raise NotEnded(f"scan {scan_id} has not been answered yet: give the verdict when it has")
    if state == ScanState.REJECTED.value:
        return image_sha256, finished_at, None
    answer = json.loads(result)
    suggestion = {
        "primary": answer["diagnosis"]["primary"],
        "melanoma_risk": answer["diagnosis"]["melanoma_risk"],
        "suspicious": answer["operating"]["suspicious"],
        "model_version": answer["model_version"],
    }
    return image_sha256, finished_at, suggestion


def _audited(given: Given) -> Entry:
    return audit.entry(
        given.actor or Actor(given.by or "unnamed", SHELL),
        AuditAction.VERDICT,
        given.scan_id,
        {"verdict_id": given.verdict_id, "source": given.source, "withdrawn": given.diagnosis is None},
        at=given.at,
        clock_trusted=given.clock_trusted,
        reference=f"verdict:{given.verdict_id}",
    )


def _post(db: Connection, sender: Sender, verdict: Verdict) -> None:
    event_id = event_id_of(verdict.verdict_id, FEEDBACK.type)
    event = event_bytes(
        sender,
        FEEDBACK,
        event_id=event_id,
        subject=verdict.scan_id,
        seq=verdict.seq,
        time=verdict.given_at,
        data=feedback_of(verdict),
    )
    # The outbox refers to a scan that is there; after a salvage it may not be.
    known = db.execute("SELECT scan_id FROM scans WHERE scan_id = ?", (verdict.scan_id,)).fetchone()
    outbox.enqueue(
        db,
        event_id=event_id,
        scan_id=None if known is None else verdict.scan_id,
        event_type=FEEDBACK.type,
        topic=FEEDBACK.topic,
        event=event,
        created_at=verdict.given_at,
    )


def _one(db: Connection, seq: int) -> Verdict:
    return _verdict(db.execute(f"SELECT {_COLUMNS} FROM verdicts WHERE seq = ?", (seq,)).fetchone())  # noqa: S608


def _verdict(row: tuple[Any, ...]) -> Verdict:
    fields = dict(zip(Verdict.__dataclass_fields__, row, strict=True))
    fields["suggestion"] = None if fields["suggestion"] is None else json.loads(fields["suggestion"])
    fields["clock_trusted"] = bool(fields["clock_trusted"])
    return Verdict(**fields)
