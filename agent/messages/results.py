"""A scan's end, told once: answered or refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, RootModel

from agent.answer.scan import Calibration, Diagnosis, Milliseconds, Operating, PassedOver, Quality
from agent.messages.parts import Data, Identifier, ScanId, Sentence, Sha256


class Answered(Data):
    """An answer as it leaves the device: all of it but the patient."""

    state: Literal["answered"]
    scan_id: ScanId
    clinic_id: Identifier
    device_id: Identifier
    dermoscope_id: Identifier
    image_sha256: Sha256
    diagnosis: Diagnosis
    operating: Operating
    attention_map: Annotated[str, Field(max_length=100_000)]
    """Base64 of a palette PNG, 224 x 224: the model's attention over the centred square of the picture."""
    recommendation: Sentence
    model_version: str
    model_sha256: Sha256
    software_version: str
    backend: str
    passed_over: tuple[PassedOver, ...] = ()
    latency_ms: Milliseconds
    timings_ms: dict[str, Milliseconds]
    calibration: Calibration
    quality: Quality
    warnings: tuple[Sentence, ...] = ()
    captured_at: datetime | None = None
    answered_at: datetime
    clock_trusted: bool


class Rejected(Data):
    """A capture that was refused, and why."""

    state: Literal["rejected"]
    scan_id: ScanId
    clinic_id: Identifier
    device_id: Identifier
    dermoscope_id: Identifier
    image_sha256: Sha256 | None
    """None for what could not be read as a file."""
    reason: str
    """A code: see ``agent/intake/reasons.py``."""
    sentence: Sentence
    received_at: datetime
    finished_at: datetime
    software_version: str
    clock_trusted: bool


class Result(RootModel[Annotated[Answered | Rejected, Field(discriminator="state")]]):
    """One scan's end."""
