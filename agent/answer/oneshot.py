"""Pictures answered one after the other without a daemon: what ``dermascan analyze`` runs."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Final

from agent import __version__
from agent.answer.pipeline import Analysis, Prepared, Setting, conclude, infer, prepare, time_left
from agent.config import Config
from agent.fallback import cloud_settings, pseudonyms
from agent.intake.capture import Capture, FileStamp
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, Rejection
from agent.intake.sidecar import read_sidecar
from engines.backend import EngineError
from engines.bundle import Bundle
from engines.ladder import open_ladder

START_S: Final = 60.0
"""How long an engine may take to get ready: a large model on a slow device loads for some seconds."""
UNNAMED: Final = "unnamed"
"""Device, clinic and dermoscope of an answer given outside a configured device."""


@dataclass(frozen=True)
class Refused:
    """A picture that was not answered, and why."""

    reason: Reason
    sentence: str


@dataclass(frozen=True)
class Item:
    """What became of one path."""

    path: Path
    outcome: Analysis | Refused


def open_setting(bundle: Bundle, config: Config | None) -> Setting:
    """The setting for a run without daemon; the ladder is made but not started."""
    names = config.inference.ladder if config else ("cpu",)
    cloud = cloud_settings(config) if config else None
    names_of_patients = pseudonyms(config) if config else None
    return Setting(
        bundle=bundle,
        ladder=open_ladder(names, bundle, cache=config.device.state_dir / "cache" if config else None, cloud=cloud),
        limits=DecodeLimits(),
        deadline_s=config.inference.deadline_s if config else 3.0,
        device_id=config.device.id if config else UNNAMED,
        clinic_id=config.device.clinic_id if config else UNNAMED,
        software_version=__version__,
        clock=lambda: datetime.now(timezone.utc),
        clock_trusted=lambda: True,
        pseudonym=names_of_patients.of if names_of_patients else None,
    )


def analyse_all(paths: Sequence[Path], setting: Setting, pool: Executor) -> Iterator[Item]:
    """Answer ``paths`` in their order; the next picture is prepared on ``pool`` while one is inferred.

    Raises:
        EngineError: no engine got ready, or none answered.
    """
    ahead: deque[tuple[Path, Future[Prepared | Refused]]] = deque()
    rest = iter(paths)
    ready = False
    while True:
        while len(ahead) < 2 and (path := next(rest, None)) is not None:
            ahead.append((path, pool.submit(_read_and_prepare, path, setting)))
        if not ahead:
            return
        path, future = ahead.popleft()
        prepared = future.result()
        if isinstance(prepared, Refused):
            yield Item(path, prepared)
            continue
        if not ready:
            # The engine starts while the first picture is decoded; its start is not part of any answer's time.
            if not setting.ladder.wait_ready(START_S):
                raise EngineError(f"it was not ready within {START_S:.0f} s")
            ready = True
        # Waiting for the picture before it or for the engine's start is no part of this answer's time or deadline.
        prepared = replace(prepared, started=setting.monotonic() - prepared.took_s)
        sidecar = partial(read_sidecar, path)
        result = infer(prepared, setting, sidecar, time_left(prepared, setting))
        yield Item(path, conclude(prepared, result, setting, str(uuid.uuid4()), sidecar))


def _read_and_prepare(path: Path, setting: Setting) -> Prepared | Refused:
    try:
        return prepare(_read(path, setting.limits), setting)
    except Rejection as rejection:
        return Refused(rejection.reason, rejection.sentence)


def _read(path: Path, limits: DecodeLimits) -> Capture:
    try:
        status = path.stat()
        if not path.is_file():
            raise Rejection(Reason.NOT_A_FILE, "This is not a file. Name a picture file.")
        if status.st_size > limits.max_bytes:
            limit = limits.max_bytes // 2**20
            raise Rejection(Reason.TOO_MANY_BYTES, f"The file is larger than the {limit} MB that are read.")
        return Capture.from_bytes(path, UNNAMED, FileStamp.of(status), path.read_bytes())
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Rejection(Reason.UNREADABLE, f"The file cannot be read: {why}. Check its name and place.") from error
