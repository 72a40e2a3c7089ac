"""The list of scans, and everything of one."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response

from agent.answer.scan import CalibrationState, ScanState
from agent.records import ground_truth, listing, queries, verdicts
from agent.records.listing import Listed
from agent.records.verdicts import Verdict as KeptVerdict
from agent.web.context import Context, Here, reply
from agent.web.gate import Right, SeesScans
from agent.web.models import GroundTruth, Links, ScanDetail, ScanList, ScanSummary, Verdict
from agent.web.problems import INVALID, NO_SUCH_SCAN, SIGNED_IN, Problem, described

router = APIRouter(prefix="/api/v1", tags=["scans"])

MOMENT: Final = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{3}(\d{3})?)?([Zz]|[+-]\d\d:\d\d)?$"
ScanId = Annotated[str, Path(description="As in the list, in an answer, and in the names of the result files.")]


def verdict_of(kept: KeptVerdict, *, patients: bool) -> Verdict:
    """A verdict as the interface says it; what somebody wrote may name a patient."""
    return Verdict.model_validate(
        {
            "verdict_id": kept.verdict_id,
            "scan_id": kept.scan_id,
            "diagnosis": kept.diagnosis,
            "source": kept.source,
            "by": kept.given_by,
            "note": kept.note if patients else None,
            "given_at": kept.given_at,
            "supersedes": kept.supersedes,
            "agrees": {"confirmation": True, "correction": False}.get(kept.agreement),
        }
    )


def summary_of(scan: Listed, *, patients: bool) -> ScanSummary:
    """A scan as the interface lists it; without ``patients`` nothing in it is of one."""
    return ScanSummary(**_summary(scan, patients=patients))


def _summary(scan: Listed, *, patients: bool) -> dict[str, Any]:
    site = scan.metadata.get("body_site")
    return {
        "seq": scan.seq,
        "scan_id": scan.scan_id,
        "state": scan.state,
        "dermoscope_id": scan.dermoscope_id,
        "received_at": scan.received_at,
        "answered_at": scan.finished_at,
        "patient_id": scan.patient_id if patients else None,
        "body_site": str(site) if patients and site is not None else None,
        "primary": scan.primary,
        "confidence": scan.confidence,
        "melanoma_risk": scan.melanoma_risk,
        "threshold": scan.threshold,
        "suspicious": None if scan.suspicious is None else bool(scan.suspicious),
        "warnings": scan.warnings,
        "reason": scan.reason,
        "sentence": scan.sentence,
        "backend": scan.backend,
        "latency_ms": scan.latency_ms,
        "calibration_state": None if scan.calibration_state is None else CalibrationState(scan.calibration_state),
        "clock_trusted": scan.clock_trusted,
        "verdict": None if scan.verdict is None else verdict_of(scan.verdict, patients=patients),
    }


def find(here: Context, scan_id: str) -> Listed:
    """A scan by its id; for one of the web's own threads. Raises Problem where there is none."""
    with here.agent.store.reading() as db:
        scan = listing.one(db, scan_id)
    if scan is None:
        raise no_such_scan()
    return scan


def no_such_scan() -> Problem:
    """The answer to an id that no scan has. It does not repeat the id, whatever that is."""
    return Problem(NO_SUCH_SCAN, "No scan on this device has this id. GET /api/v1/scans lists those there are.")


def stored_time(value: datetime) -> str:
    """A moment as the database writes it; one without a zone is meant as UTC."""
    value = value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@router.get("/scans", response_model=ScanList, responses=described(*SIGNED_IN, INVALID))
async def scans(
    here: Here,
    visitor: SeesScans,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=0, le=(1 << 63) - 1, description="next_before of the part before")] = None,
    since: Annotated[
        str | None,
        Query(
            pattern=MOMENT,
            max_length=40,
            description="Only those received then or later; with a zone, or UTC is meant.",
            json_schema_extra={"examples": ["2026-11-23T00:00:00+01:00"]},
        ),
    ] = None,
) -> Response:
    """The scans, the newest first."""
    try:
        from_time = None if since is None else stored_time(datetime.fromisoformat(since.upper().replace("Z", "+00:00")))
    except (ValueError, OverflowError):
        raise Problem(INVALID, "since: that is no moment that a clock shows.") from None
    patients = visitor.may(Right.PATIENTS)

    def look() -> str:
        with here.agent.store.reading() as db:
            found = listing.newest(db, limit + 1, before=before, since=from_time)
        more = found[limit - 1].seq if len(found) > limit else None
        listed = [summary_of(scan, patients=patients) for scan in found[:limit]]
        return ScanList(scans=listed, next_before=more).model_dump_json()

    return Response(await here.run(look), media_type="application/json")


@router.get("/scans/{scan_id}", response_model=ScanDetail, responses=described(*SIGNED_IN, NO_SUCH_SCAN, INVALID))
async def scan(scan_id: ScanId, here: Here, visitor: SeesScans) -> Response:
    """Everything of a scan: the answer, whose it is, and what was said of it."""
    return reply(await here.run(_detail, here, scan_id, patients=visitor.may(Right.PATIENTS)))


def _detail(here: Context, scan_id: str, *, patients: bool) -> ScanDetail:
    with here.agent.store.reading() as db:
        found = listing.one(db, scan_id)
        if found is None:
            raise no_such_scan()
        result = queries.result_json(db, scan_id) if found.state is ScanState.ANSWERED else None
        given = verdicts.of_scan(db, scan_id)
        truths = ground_truth.of_scan(db, scan_id)
        cloud = listing.cloud_state(db, scan_id)
    answer = None if result is None else json.loads(result)
    if answer is not None and not patients:
        answer["patient_id"] = None
    place = f"/api/v1/scans/{scan_id}"
    pictured = patients and found.image_sha256 is not None
    return ScanDetail.model_validate(
        {
            **_summary(found, patients=patients),
            "answer": answer,
            "metadata": found.metadata if patients else {},
            "verdicts": [verdict_of(one, patients=patients) for one in given],
            "ground_truths": [
                GroundTruth(diagnosis=one.diagnosis, received_at=one.received_at, sent_at=one.sent_at) for one in truths
            ],
            "cloud": cloud or "none",
            "links": Links(
                overlay=f"{place}/overlay.png" if patients and answer is not None else None,
                image=f"{place}/image" if pictured else None,
                view=f"{place}/view.jpg" if pictured else None,
            ),
        }
    )
