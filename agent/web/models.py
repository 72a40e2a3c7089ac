"""What the interface says, in the order of the contract; OpenAPI describes it from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.access.tokens import Role
from agent.answer.scan import Answer, CalibrationState, ScanState
from agent.messages.parts import DiagnosisClass, Share
from agent.messages.verdicts import VerdictSource

Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True)


class SessionInfo(_Said):
    """Who is signed in."""

    name: str
    role: Role
    expires_at: Time | None
    """Of the session, or of the token where there is none; None: not by itself."""


class Verdict(_Said):
    """What a clinician or a pathologist said of a scan."""

    verdict_id: str
    scan_id: str
    diagnosis: DiagnosisClass | None
    """None: the verdict before this one was withdrawn."""
    source: VerdictSource
    by: str | None
    note: str | None
    given_at: Time
    supersedes: str | None
    agrees: bool | None
    """With the model's suggestion; None where there was none, or nothing is said any more."""


class GroundTruth(_Said):
    """What the cloud sent of a scan: histopathology."""

    diagnosis: str
    received_at: Time
    sent_at: Time | None


class ScanSummary(_Said):
    """A scan as the list shows it."""

    seq: int
    scan_id: str
    state: ScanState
    dermoscope_id: str
    received_at: Time
    answered_at: Time | None
    """When it came to its end, whichever."""
    patient_id: str | None
    body_site: str | None
    primary: str | None
    confidence: Share | None
    melanoma_risk: Share | None
    threshold: Share | None
    suspicious: bool | None
    warnings: Count
    reason: str | None
    """Why the capture was refused."""
    sentence: str | None
    """The same for people."""
    backend: str | None
    latency_ms: float | None
    calibration_state: CalibrationState | None
    clock_trusted: bool
    verdict: Verdict | None
    """The one that stands."""


class ScanList(_Said):
    """A part of the list, the newest first."""

    scans: list[ScanSummary]
    next_before: int | None
    """To be given as ``before`` for the next part; None at the end."""


class Links(_Said):
    """Where a scan's pictures are; None where there is none."""

    overlay: str | None
    image: str | None
    view: str | None


_ANSWER: dict[str, Any] = {"anyOf": [{"$ref": "#/components/schemas/Answer"}, {"type": "null"}]}


class ScanDetail(ScanSummary):
    """Everything of a scan."""

    answer: Annotated[dict[str, Any] | None, Field(json_schema_extra=_ANSWER)]
    metadata: dict[str, Any]
    """What the sidecar, the file or the request said of the patient."""
    verdicts: list[Verdict]
    """Oldest first; the last one stands."""
    ground_truths: list[GroundTruth]
    cloud: Literal["none", "waiting", "acknowledged", "dead"]
    """How far the event of the result is."""
    links: Links


class ModelInfo(_Said):
    """The model that answers."""

    label: str
    sha256: str
    demo: bool
    """Demonstration weights: never for patients."""
    threshold: Share
    classes: list[str]


class RungInfo(_Said):
    """A rung of the ladder."""

    name: str
    state: Literal["ready", "starting", "failed"]
    detail: str | None
    """What keeps it from being ready."""
    typical_ms: float | None


class CaptureLoad(_Said):
    """Captures on their way."""

    in_hand: Count
    waiting: Count


class ScanCounts(_Said):
    """Scans by state."""

    received: Count
    answered: Count
    rejected: Count


class OutboxInfo(_Said):
    """Events for the cloud."""

    waiting: Count
    acknowledged: Count
    dead: Count
    oldest_waiting_at: Time | None


class CloudInfo(_Said):
    """The connection to the cloud."""

    configured: bool
    phase: str | None
    sentence: str


class CalibrationInfo(_Said):
    """What a dermoscope's colour profile is worth."""

    state: CalibrationState
    profile_id: str | None
    age_days: float | None
    warnings: list[str]


class DermoscopeInfo(_Said):
    """A dermoscope."""

    id: str
    folder_ok: bool
    calibration: CalibrationInfo


class DiskInfo(_Said):
    """Room."""

    free_mb: Count
    quota_mb: Count
    used_mb: Count
    full: bool
    """Nothing new is taken in."""


class Status(_Said):
    """How the device does."""

    device_id: str
    clinic_id: str
    software_version: str
    started_at: Time
    uptime_s: Annotated[float, Field(ge=0.0)]
    ready: bool
    clock_trusted: bool
    model: ModelInfo
    rungs: list[RungInfo]
    captures: CaptureLoad
    counts: ScanCounts
    outbox: OutboxInfo
    cloud: CloudInfo
    dermoscopes: list[DermoscopeInfo]
    disk: DiskInfo
    warnings: list[str]


class Alive(_Said):
    """The process answers."""

    alive: Literal[True] = True


class Ready(_Said):
    """Whether a rung has passed its golden image since it was last started."""

    ready: bool


class Result(_Said):
    """What became of one picture of several."""

    answer: Answer | None = None
    problem: dict[str, Any] | None = Field(
        None, json_schema_extra={"anyOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "null"}]}
    )


class Results(_Said):
    """What became of each picture, in their order."""

    results: list[Result]
