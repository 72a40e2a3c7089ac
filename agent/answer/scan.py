"""The answer as everyone gets it: the file, the event and the API carry these fields, under these names."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScanState(str, Enum):
    """Where a scan stands; the last two are terminal, and every capture reaches exactly one of them."""

    RECEIVED = "received"
    ANSWERED = "answered"
    REJECTED = "rejected"


class CalibrationState(str, Enum):
    """Whether the colours were corrected with a valid profile."""

    VALID = "valid"
    EXPIRED = "expired"
    NONE = "none"


class Diagnosis(_Part):
    """The classifier's suggestion: never a diagnosis by itself (21 CFR 878.1820)."""

    primary: str
    """The most probable of the seven classes. Not what the recommendation is drawn from."""
    confidence: Share
    """Probability of ``primary``."""
    melanoma_risk: Share
    all_classes: dict[str, Share]


class Operating(_Part):
    """The bundle's decision rule as applied to this scan."""

    threshold: Share
    suspicious: bool
    """``melanoma_risk >= threshold``."""


class Quality(_Part):
    """Measured properties of the picture, and what they make us warn of."""

    width: int
    height: int
    brightness: Share
    """Mean luma (BT.601) of what is not the dark ring, 0 black to 1 white."""
    sharpness: float
    """Variance of the Laplacian of the luma (0..255) at a fixed scale; higher is sharper."""
    clipped_share: Share
    """Share of the pixels that are not nearly black which have a channel at 0 or 255."""
    dark_ring_share: Share
    """Share of the picture that is nearly black and hangs together with its border: the dermoscope's own rim."""
    warnings: tuple[str, ...] = ()


class Calibration(_Part):
    """Which colour profile corrected the picture."""

    profile_id: str | None = None
    state: CalibrationState = CalibrationState.NONE
    age_days: Annotated[float, Field(ge=0.0)] | None = None
    """Of the profile; None without one, and where the clock cannot be believed."""


class PassedOver(_Part):
    """A rung of the ladder that did not answer, and why."""

    backend: str
    reason: str


class Answer(_Part):
    """One scan's answer. The first five fields are the required core of the contract."""

    diagnosis: Diagnosis
    attention_map: str
    """Base64 of a PNG, 224 x 224, palette-coloured: the model's attention over the square it looked at."""
    recommendation: str
    model_version: str
    latency_ms: Milliseconds
    """From the start of work on the capture to the answer, before it is committed."""

    scan_id: str
    image_sha256: str
    clinic_id: str
    device_id: str
    dermoscope_id: str
    patient_id: str | None = None
    """Never leaves the device."""
    captured_at: datetime | None = None
    """From the picture itself (without a zone where the camera names none), else the file's modification time."""
    answered_at: datetime
    backend: str
    passed_over: tuple[PassedOver, ...] = ()
    operating: Operating
    calibration: Calibration
    quality: Quality
    warnings: tuple[str, ...] = ()
    """Everything a clinician should know before reading the answer: quality, calibration, sidecar, lateness."""
    timings_ms: dict[str, Milliseconds]
    software_version: str
    model_sha256: str
    clock_trusted: bool
