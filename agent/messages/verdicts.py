"""What became of a scan: a clinician's verdict on the way up, histopathology on the way down."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from agent.messages.parts import Data, DiagnosisClass, EventId, HeardData, ScanId, Sha256, Share

VerdictSource = Literal["clinician", "histopathology", "follow_up"]


class Suggestion(Data):
    """What the model had suggested."""

    primary: DiagnosisClass
    melanoma_risk: Share
    suspicious: bool
    model_version: str


class Feedback(Data):
    """A verdict on a scan. A later one supersedes it; both are kept."""

    verdict_id: EventId
    scan_id: ScanId
    image_sha256: Sha256 | None
    diagnosis: DiagnosisClass | None
    """None: the verdict that this one supersedes is withdrawn, and nothing is said in its place."""
    source: VerdictSource
    agreement: Literal["confirmation", "correction", "no_suggestion", "withdrawn"]
    """Whether ``diagnosis`` is the model's ``primary``; a refused capture had no suggestion."""
    supersedes: EventId | None = None
    suggestion: Suggestion | None = None
    given_at: datetime
    clock_trusted: bool


class GroundTruth(HeardData):
    """Histopathology of a lesion, linked to the scan of it."""

    scan_id: ScanId
    diagnosis: DiagnosisClass
    source: Literal["histopathology", "follow_up"] = "histopathology"
    reported_at: datetime | None = None
