"""A bundle, a ladder and captures that need no model: the pure parts are tested on their own."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.answer.pipeline import Analysis, Setting, analyse
from agent.intake.capture import Capture, FileStamp
from agent.intake.picture import DecodeLimits
from agent.intake.sidecar import Sidecar
from engines.backend import Images, Output
from engines.bundle import Bundle
from engines.classes import CLASSES
from engines.ladder import LadderResult
from engines.manifest import Manifest

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
STAMP = FileStamp(device=1, inode=2, size=3, mtime_ns=1_700_000_000_000_000_000, ctime_ns=0)


class FakeLadder:
    """Answers with given numbers and remembers what it was asked."""

    def __init__(self, probabilities: list[float], attention: NDArray[np.float32]) -> None:
        self.probabilities, self.attention = probabilities, attention
        self.deadlines: list[float] = []
        self.images: list[Images] = []
        self.events: list[str] = []

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")

    def wait_ready(self, timeout_s: float) -> bool:
        self.events.append("wait")
        return True

    def run(self, images: Images, deadline_s: float) -> LadderResult:
        self.events.append("run")
        self.deadlines.append(deadline_s)
        self.images.append(images)
        output = Output(np.array([self.probabilities], np.float32), self.attention[None])
        return LadderResult(output, "cpu", (("tensorrt", "not ready"),), 5.0)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.model_validate(
        {
            "schema_version": 1,
            "name": "fake",
            "version": "1.2.3",
            "architecture": "none",
            "classes": CLASSES,
            "input": {
                "size": 224,
                "crop": "centre_square",
                "resize": "area",
                "colour_order": "RGB",
                "mean": (0.485, 0.456, 0.406),
                "std": (0.229, 0.224, 0.225),
            },
            "files": {},
            "operating_point": {"threshold": 0.25, "sensitivity": 0.9, "specificity": 0.6, "chosen_on": "nothing"},
            "golden": {"image": "golden.png", "probabilities": (0.4, *[0.1] * 6), "tolerance": 0.01},
            "provenance": {},
            "licence": "none",
            "intended_use": "tests",
        }
    )


@pytest.fixture
def attention() -> NDArray[np.float32]:
    """A hill right of the middle."""
    rows, columns = np.mgrid[:14, :14]
    hill = np.exp(-((rows - 5) ** 2 + (columns - 9) ** 2) / 8.0)
    return (hill / hill.sum()).astype(np.float32)


@pytest.fixture
def ladder(attention: NDArray[np.float32]) -> FakeLadder:
    return FakeLadder([0.3, 0.05, 0.1, 0.05, 0.4, 0.05, 0.05], attention)


@pytest.fixture
def setting(manifest: Manifest, ladder: FakeLadder) -> Setting:
    return Setting(
        bundle=Bundle(Path("/bundle"), manifest, "0" * 64),
        ladder=ladder,  # type: ignore[arg-type] - what the pipeline uses of a ladder
        limits=DecodeLimits(),
        deadline_s=3.0,
        device_id="device-1",
        clinic_id="clinic-1",
        software_version="9.9.9",
        clock=lambda: NOW,
        clock_trusted=lambda: True,
    )


def skin(height: int = 768, width: int = 1024, seed: int = 0) -> NDArray[np.uint8]:
    """A synthetic picture that every check is content with: a brown lesion with texture on light skin, RGB."""
    if height * width > 2_000_000:
        return cv2.resize(skin(height // 4, width // 4, seed), (width, height)).astype(np.uint8)
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    far = np.hypot((rows - height / 2) / height, (columns - width / 2) / height)
    light = np.where(far < 0.25, 0.45, 1.0)[..., None] * np.array([215.0, 170.0, 150.0])
    texture = cv2.resize(rng.normal(0, 25, (height // 2, width // 2)), (width, height))[..., None]
    return np.clip(light + texture, 5, 250).astype(np.uint8)


def png(rgb: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_PNG_COMPRESSION, 1))
    assert done
    return io.BytesIO(data.tobytes()).getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return skin()


@pytest.fixture
def capture(picture: NDArray[np.uint8]) -> Capture:
    return Capture.from_bytes(Path("/scope/lesion.png"), "scope-1", STAMP, png(picture))


@pytest.fixture
def analysed(setting: Setting, ladder: FakeLadder, capture: Capture) -> Callable[..., Analysis]:
    """Analyse the capture with other probabilities or another sidecar."""

    def run(probabilities: list[float] | None = None, sidecar: Sidecar | None = None, **changes: object) -> Analysis:
        if probabilities is not None:
            ladder.probabilities = probabilities
        changed = replace(setting, **changes)  # type: ignore[arg-type]
        return analyse(capture, changed, "scan-1", lambda: sidecar or Sidecar())

    return run
