"""The way from a capture to its answer: one function for the daemon, the command and the tests.

``analyse`` is ``prepare`` (the picture's part: decode, judge, preprocess), ``infer`` (the ladder's part) and
``conclude`` (the reader's part) one after the other. They are apart so that one capture can be prepared while another
is inferred, and so that a 12-megapixel picture is given back before its inference begins: what goes on is a preview
and 0.6 MB of input.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Final

from agent.answer import texts
from agent.answer.aside import Begin, here
from agent.answer.colours import Colours, ColourSource, uncalibrated
from agent.answer.diagnosis import diagnose
from agent.answer.heatmap import Attention, heatmap_png
from agent.answer.quality import measure
from agent.answer.scan import Answer, PassedOver, Quality
from agent.answer.shrink import RGB, preview
from agent.intake.capture import Capture
from agent.intake.decode import decode
from agent.intake.picture import DecodeLimits, Picture
from agent.intake.sidecar import Sidecar
from engines.backend import Images, Patients
from engines.bundle import Bundle
from engines.ladder import Ladder, LadderResult
from engines.preprocess import crop_and_resize, normalise

LEAST_TIME_S: Final = 0.05
"""What the ladder is still given when preparing used the deadline up: late, but an answer."""
ABOUT_KEYS: Final = ("patient_id", "body_site", "age", "sex", "skin_type")


@dataclass(frozen=True)
class Setting:
    """What an analysis needs beside the capture; made once at start."""

    bundle: Bundle
    ladder: Ladder
    limits: DecodeLimits
    deadline_s: float
    """For the whole answer, from the start of work."""
    device_id: str
    clinic_id: str
    software_version: str
    clock: Callable[[], datetime]
    """Wall time with a time zone, for the record only."""
    clock_trusted: Callable[[], bool]
    monotonic: Callable[[], float] = time.perf_counter
    """Seconds, for every interval (F16)."""
    colours: ColourSource = uncalibrated
    pseudonym: Callable[[str | None], str | None] | None = None
    """What stands for a patient on a rung outside this machine; without it such a rung is told nobody (F30)."""
    aside: Begin = here
    """Begins half of a picture's preparation on another thread."""
    decoding: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Held while a picture exists at its full size, which is what an analysis needs memory for."""


@dataclass(frozen=True)
class Prepared:
    """A capture's picture made ready for the network. The full picture is no longer held."""

    capture: Capture
    started: float
    """``Setting.monotonic`` when work on the capture began."""
    took_s: float
    images: Images
    """``[1, 3, S, S]``."""
    preview: RGB
    """The picture, its long side 512 to 1023 pixels, or all of a smaller one."""
    quality: Quality
    colours: Colours
    notes: tuple[str, ...]
    captured_at: datetime
    about: dict[str, str]
    timings_ms: dict[str, float]
    """Of each stage; preview and quality may have been made beside the others."""


@dataclass(frozen=True)
class Analysis:
    """The answer, and what is needed beside it to draw the overlay and to file it."""

    answer: Answer
    rgb: RGB
    """The preview of the picture."""
    attention: Attention
    """``[14, 14]`` float32."""
    about: dict[str, str]
    """What the sidecar and the file say of the patient, as text under the sidecar's keys; never leaves the device."""


def analyse(
    capture: Capture,
    setting: Setting,
    scan_id: str,
    sidecar: Callable[[], Sidecar],
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Analysis:
    """Analyse one capture.

    Args:
        capture: the complete file.
        setting: bundle, ladder, limits, clocks.
        scan_id: the answer's id.
        sidecar: reads the capture's sidecar; called after inference, since cameras write it after the picture, and
            before it too where a rung outside this machine is to be told whose picture it is.
        waiting: a context to be in while the engine works, which is not this process. What it raises on being
            entered ends the analysis before the engine hears of it.

    Raises:
        Rejection: the picture is at fault; the sentence is for the person who took it.
        EngineError: no rung of the ladder gave an answer.
    """
    prepared = prepare(capture, setting)
    left_s = time_left(prepared, setting)  # of which who waits in `waiting` for something else takes nothing
    with waiting():
        result = infer(prepared, setting, sidecar, left_s)
    return conclude(prepared, result, setting, scan_id, sidecar)


def prepare(capture: Capture, setting: Setting) -> Prepared:
    """Decode the capture, judge the picture, and make the network's input; raises Rejection."""
    with setting.decoding:
        return _prepare(capture, setting)


def _prepare(capture: Capture, setting: Setting) -> Prepared:
    laps = _Laps(setting.monotonic)
    picture = decode(capture.data, setting.limits, capture.path.name)
    laps.end("decode")
    judged = setting.aside(partial(_judge, picture, setting))
    contract = setting.bundle.manifest.input
    small = crop_and_resize(picture.rgb, contract.size)
    laps.end("preprocess")
    shape = (picture.rgb.shape[0], picture.rgb.shape[1])
    colours = setting.colours(capture.dermoscope_id, shape)
    images = normalise(colours.correct(small, shape), contract)
    laps.end("colours")
    preview_rgb, quality, took_ms = judged()
    return Prepared(
        capture=capture,
        started=laps.started,
        took_s=max(0.0, setting.monotonic() - laps.started),
        images=images,
        preview=preview_rgb,
        colours=colours,
        quality=quality,
        notes=picture.notes if capture.stable else (*picture.notes, texts.NEVER_ENDED),
        captured_at=picture.captured_at or datetime.fromtimestamp(capture.stamp.mtime_ns / 1e9, tz=timezone.utc),
        about=dict(picture.about),
        timings_ms={**laps.ms, **took_ms},
    )


def _judge(picture: Picture, setting: Setting) -> tuple[RGB, Quality, dict[str, float]]:
    """The preview, the quality and how long they took; raises Rejection."""
    laps = _Laps(setting.monotonic)
    small = preview(picture.rgb)
    laps.end("preview")
    quality = measure(picture.rgb, picture.camera_size, small)
    laps.end("quality")
    return small, quality, laps.ms


class _Laps:
    """How long each of several stages takes that come one after the other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.started = self._lap = clock()
        self.ms: dict[str, float] = {}

    def end(self, stage: str) -> None:
        now = self._clock()
        self.ms[stage] = max(0.0, (now - self._lap) * 1000.0)
        self._lap = now


def time_left(prepared: Prepared, setting: Setting) -> float:
    """Seconds of the deadline that are left for the ladder."""
    return max(LEAST_TIME_S, setting.deadline_s - (setting.monotonic() - prepared.started))


def infer(prepared: Prepared, setting: Setting, sidecar: Callable[[], Sidecar], left_s: float) -> LadderResult:
    """Run the ladder for ``left_s`` seconds at most; raises EngineError.

    A rung outside this machine gets the picture from its input, and the patient as a pseudonym: no engine gets the id.
    """
    pseudonym = setting.pseudonym
    if pseudonym is None:
        return setting.ladder.run(prepared.images, left_s)

    def whose() -> Patients:
        about, _ = merge_about(prepared.about, sidecar())
        return (pseudonym(about.get("patient_id")),)

    return setting.ladder.run(prepared.images, left_s, whose)


def conclude(
    prepared: Prepared, result: LadderResult, setting: Setting, scan_id: str, sidecar: Callable[[], Sidecar]
) -> Analysis:
    """Draw the answer from what the network gave."""
    lap = setting.monotonic()
    manifest = setting.bundle.manifest
    attention = result.output.attention[0]
    diagnosis, operating, recommendation = diagnose(result.output.probabilities[0], manifest)
    heatmap = base64.b64encode(heatmap_png(attention)).decode("ascii")
    said = sidecar()
    about, contradiction = merge_about(prepared.about, said)
    ended = setting.monotonic()
    took = max(0.0, ended - prepared.started)
    warnings = (
        *prepared.quality.warnings,
        *prepared.colours.warnings,
        *prepared.notes,
        *((said.warning,) if said.warning else ()),
        *contradiction,
        *((texts.late(took, setting.deadline_s),) if took > setting.deadline_s else ()),
    )
    capture = prepared.capture
    answer = Answer(
        diagnosis=diagnosis,
        attention_map=heatmap,
        recommendation=recommendation,
        model_version=setting.bundle.label,
        latency_ms=took * 1000.0,
        scan_id=scan_id,
        image_sha256=capture.sha256,
        clinic_id=setting.clinic_id,
        device_id=setting.device_id,
        dermoscope_id=capture.dermoscope_id,
        patient_id=about.get("patient_id"),
        captured_at=prepared.captured_at,
        answered_at=setting.clock(),
        backend=result.backend,
        passed_over=tuple(PassedOver(backend=backend, reason=reason) for backend, reason in result.passed_over),
        operating=operating,
        calibration=prepared.colours.calibration,
        quality=prepared.quality,
        warnings=warnings,
        timings_ms={
            **prepared.timings_ms,
            "inference": max(0.0, result.run_ms),
            "explain": max(0.0, (ended - lap) * 1000.0),
        },
        software_version=setting.software_version,
        model_sha256=setting.bundle.model_sha256,
        clock_trusted=setting.clock_trusted(),
    )
    return Analysis(answer=answer, rgb=prepared.preview, attention=attention, about=about)


def merge_about(picture: dict[str, str], sidecar: Sidecar) -> tuple[dict[str, str], tuple[str, ...]]:
    """What file and sidecar say together, the sidecar winning, and a warning where they name different patients."""
    merged = {key: value for key, value in picture.items() if value}
    for key in ABOUT_KEYS:
        value = getattr(sidecar, key)
        if value is not None and value != "":
            merged[key] = str(value)
    in_picture = picture.get("patient_id")
    differ = bool(in_picture and sidecar.patient_id and in_picture.strip() != str(sidecar.patient_id).strip())
    return merged, (texts.PATIENTS_DIFFER,) if differ else ()
