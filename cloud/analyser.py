"""One uploaded picture to its answer: the device's own pipeline, with a bundle and a ladder of the cloud's."""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent import __version__
from agent.answer.pipeline import Setting, analyse
from agent.answer.scan import Answer
from agent.intake.capture import Capture, FileStamp
from agent.intake.headers import sniff
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, Rejection
from agent.intake.sidecar import Sidecar
from agent.messages.parts import Identifier
from engines.bundle import Bundle
from engines.ladder import Ladder, open_ladder

UNNAMED: Final = "unnamed"
"""Dermoscope, and the device where no certificate names it."""
DEADLINE_S: Final = 3.0
_KINDS: Final = ("PNG", "JPEG")


class BadRequest(Exception):
    """The request is not in the agreed form; the sentence says what is wrong and repeats nothing of it (F30)."""


class AnalyzeRequest(BaseModel):
    """The body of ``POST /api/v1/analyze``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str
    """Base64 of a PNG or JPEG."""
    clinic_id: Identifier
    patient_id: Annotated[str, Field(max_length=128)] | None = None
    """A pseudonym: the patient's own id never leaves the clinic."""


class Analyser:
    """Owns the ladder that answers uploads. ``analyse`` may be called from any thread."""

    def __init__(self, bundle: Bundle, *, ladder: Ladder | None = None, deadline_s: float = DEADLINE_S) -> None:
        """Make the ladder, not started yet.

        Args:
            bundle: the checked bundle.
            ladder: a started one's owner may hand it in; without, one of the CPU alone.
            deadline_s: for each answer.
        """
        self._setting = Setting(
            bundle=bundle,
            ladder=ladder or open_ladder(("cpu",), bundle),
            limits=DecodeLimits(),
            deadline_s=deadline_s,
            device_id=UNNAMED,
            clinic_id=UNNAMED,
            software_version=__version__,
            clock=lambda: datetime.now(timezone.utc),
            clock_trusted=lambda: True,
        )

    def start(self) -> None:
        """Begin to get ready; returns at once."""
        self._setting.ladder.start()

    def stop(self) -> None:
        """Stop the engine."""
        self._setting.ladder.stop()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until pictures are answered."""
        return self._setting.ladder.wait_ready(timeout_s)

    @property
    def ready(self) -> bool:
        """Whether pictures are answered now."""
        return self._setting.ladder.ready

    @property
    def model(self) -> str:
        """Name and version of the bundle."""
        return self._setting.bundle.label

    def analyse(self, body: bytes, device_id: str | None = None, clock_ns: Callable[[], int] = time.time_ns) -> Answer:
        """Answer the body of a request.

        Args:
            body: JSON as :class:`AnalyzeRequest` has it.
            device_id: who asks, by its certificate.
            clock_ns: wall time; stands for the moment of capture where the picture does not tell it.

        Raises:
            BadRequest: the body is not in the agreed form.
            Rejection: the picture cannot be answered.
            EngineError: no engine answered.
        """
        request, data = read_request(body)
        now = clock_ns()
        stamp = FileStamp(device=0, inode=0, size=len(data), mtime_ns=now, ctime_ns=now)
        capture = Capture.from_bytes(Path("upload"), UNNAMED, stamp, data)
        setting = replace(self._setting, clinic_id=request.clinic_id, device_id=device_id or UNNAMED)
        sidecar = Sidecar(patient_id=request.patient_id)
        return analyse(capture, setting, str(uuid.uuid4()), lambda: sidecar).answer


def read_request(body: bytes) -> tuple[AnalyzeRequest, bytes]:
    """The request and its picture's bytes.

    Raises:
        BadRequest: no JSON, a field is missing or has another form, no base64.
        Rejection: the picture is neither PNG nor JPEG.
    """
    try:
        request = AnalyzeRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise BadRequest(f"{where}: {_shortened(first['msg'])}") from None
    try:
        data = base64.b64decode(request.image, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("image: is not base64 of a PNG or JPEG file") from None
    if data and (kind := sniff(data)) not in _KINDS:
        sentence = f"This picture is {kind or 'of an unknown kind'}. Send PNG or JPEG."
        raise Rejection(Reason.UNSUPPORTED, sentence)
    return request, data


def _shortened(message: str) -> str:
    """Without the place that pydantic names in JSON that is none: it may quote what it found."""
    return message.split(":", 1)[0] if message.startswith("Invalid JSON") else message
