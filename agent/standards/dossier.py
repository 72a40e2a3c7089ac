"""All that the device knows of one scan, as an export needs it, read in one look at the database.

Who gave a verdict and what they wrote about it is not in it: both stay on the device, whatever leaves it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.answer.scan import Answer, ScanState
from agent.records import ground_truth, verdicts
from agent.records.errors import StoreError
from agent.records.reading import open_reading
from agent.records.sealed_rows import lost_keys, seal_of
from agent.standards.errors import ExportFailed, NotFinished, NothingToExport, UnknownExport

ERASED: Final = "erased"
REMEDY: Final = "run this as the agent's user"


@dataclass(frozen=True)
class Judgement:
    """A verdict, without the person who gave it and their own words."""

    verdict_id: str
    diagnosis: str | None
    """None: with this one, the verdict before it was withdrawn and nothing was put in its place."""
    source: str
    agreement: str | None
    supersedes: str | None
    given_at: str


@dataclass(frozen=True)
class Histopathology:
    """What the cloud side's pathologist found."""

    event_id: str
    diagnosis: str
    source: str
    at: str


@dataclass(frozen=True)
class Dossier:
    """One finished scan."""

    scan_id: str
    device_id: str
    clinic_id: str
    dermoscope_id: str
    state: ScanState
    """Answered or rejected."""
    image_sha256: str | None
    path: Path
    """Where the capture was last seen."""
    reason: str | None
    sentence: str | None
    received_at: str
    finished_at: str
    clock_trusted: bool
    metadata: dict[str, str]
    answer: Answer | None
    verdicts: tuple[Judgement, ...]
    """Oldest first."""
    truths: tuple[Histopathology, ...]
    """Oldest first."""

    @property
    def patient_id(self) -> str | None:
        """Whose skin it is, as the clinic names them."""
        return self.metadata.get("patient_id") or (self.answer.patient_id if self.answer else None) or None

    @property
    def verdict(self) -> Judgement | None:
        """The verdict that stands; None where none was given, or the last one was withdrawn."""
        last = self.verdicts[-1] if self.verdicts else None
        return last if last is not None and last.diagnosis is not None else None

    @property
    def withdrawn(self) -> Judgement | None:
        """The last verdict that said something, where it does not stand any more."""
        if self.verdict is not None:
            return None
        return next((one for one in reversed(self.verdicts) if one.diagnosis is not None), None)

    @property
    def truth(self) -> Histopathology | None:
        """What histopathology last found."""
        return self.truths[-1] if self.truths else None

    @property
    def judged(self) -> bool:
        """Whether a person's verdict or histopathology stands."""
        return self.verdict is not None or self.truth is not None

    @property
    def version(self) -> int:
        """Counts what has been said of the scan, from 1: the answer, then each verdict and each finding."""
        return 1 + len(self.verdicts) + len(self.truths)

    @property
    def changed_at(self) -> str:
        """When the last of it was said (RFC 3339, UTC)."""
        return max([self.finished_at, *(one.given_at for one in self.verdicts), *(one.at for one in self.truths)])


def read_dossier(state_dir: Path, scan_id: str) -> Dossier:
    """Read a scan's dossier, beside the agent or without it; it changes nothing and never checkpoints (F08).

    Raises:
        UnknownExport: there is no such scan.
        NotFinished: it is not answered yet.
        NothingToExport: it was erased with its patient.
        ExportFailed: what is kept cannot be understood.
        StoreError: the database cannot be read, or not the patient's fields in it.
    """
    with open_reading(state_dir) as db:
        row = db.execute(
            "SELECT state, image_sha256, path_bytes, dermoscope_id, reason, sentence, received_at, finished_at,"
            " clock_trusted, metadata, result, (SELECT id FROM device), kept, sealed_by FROM scans WHERE scan_id = ?",
            (scan_id,),
        ).fetchone()
        lost = row is not None and row[13] in lost_keys(db)
        given = verdicts.of_scan(db, scan_id)
        found = ground_truth.of_scan(db, scan_id)
    if row is None:
        raise UnknownExport(f"scan {scan_id} is not in the database: dermascan scans --json lists what is")
    state = ScanState(row[0])
    if state is ScanState.RECEIVED:
        raise NotFinished(f"scan {scan_id} has not been answered yet: export it when it has")
    if row[12] == ERASED:
        raise NothingToExport(f"scan {scan_id} was erased with its patient: there is nothing to export any more")
    if row[13] is not None and not lost and row[13] not in seal_of(state_dir).key_ids:
        # Else it would be exported as nobody's.
        raise StoreError(
            f"scan {scan_id}: its patient's fields are sealed, and the key is not for you to read: {REMEDY}"
        )
    result = json.loads(row[10])
    return Dossier(
        scan_id=scan_id,
        device_id=row[11],
        clinic_id=str(result.get("clinic_id") or ""),
        dermoscope_id=row[3],
        state=state,
        image_sha256=row[1],
        path=Path(os.fsdecode(row[2])),
        reason=row[4],
        sentence=row[5],
        received_at=row[6],
        finished_at=row[7],
        clock_trusted=bool(row[8]),
        metadata={key: str(value) for key, value in json.loads(row[9]).items() if value not in (None, "")},
        answer=_answer(scan_id, result) if state is ScanState.ANSWERED else None,
        verdicts=tuple(
            Judgement(one.verdict_id, one.diagnosis, one.source, one.agreement, one.supersedes, one.given_at)
            for one in given
        ),
        truths=tuple(
            Histopathology(
                one.event_id, one.diagnosis, str(json.loads(one.data).get("source", "histopathology")), one.received_at
            )
            for one in found
        ),
    )


def moment(text: str) -> datetime:
    """A time as the database keeps it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def _answer(scan_id: str, result: dict[str, Any]) -> Answer:
    # Of old scans the picture is given up in time, and the answer is kept.
    known = {"attention_map": ""} | {key: value for key, value in result.items() if key in Answer.model_fields}
    try:
        return Answer.model_validate(known)
    except ValidationError as error:
        # Its text would hold the values, the patient's id among them (F30).
        fields = ", ".join(sorted({".".join(map(str, fault["loc"])) for fault in error.errors()}))
        raise ExportFailed(f"scan {scan_id}: the kept answer has no usable {fields}") from None
