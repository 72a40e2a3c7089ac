"""A real store with scans in it, answered by hand: no engine is needed to export what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agent.answer import texts
from agent.answer.heatmap import heatmap_png
from agent.answer.overlay import render_overlay
from agent.answer.scan import Answer
from agent.intake.capture import Capture, FileStamp
from agent.intake.reasons import Reason
from agent.records.results import write_results
from agent.records.store import Clocks, Store
from engines.classes import CLASSES

SHARES = (0.62, 0.05, 0.08, 0.01, 0.2, 0.01, 0.03)
AT = datetime(2026, 11, 20, 9, 30, 12, tzinfo=timezone.utc)
ATTENTION = np.random.default_rng(7).random((14, 14), dtype=np.float32)


def photograph(seed: int = 0, size: tuple[int, int] = (320, 240)) -> bytes:
    """A JPEG of coloured clouds."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


class Clinic:
    """A device's records and its dermoscope's folder."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.scope = folder / "scope-1"
        self.scope.mkdir(exist_ok=True)
        self.now = AT
        self.trusted = True
        self.store = self._open()

    def _open(self) -> Store:
        return Store.open(
            self.state_dir,
            "device-1",
            1024,
            clinic_id="clinic-1",
            software_version="0.1.0",
            clocks=Clocks(wall=lambda: self.now, trusted=lambda: self.trusted),
        )

    def claim(self, data: bytes, name: str = "lesion.jpg") -> tuple[Capture, str]:
        path = self.scope / name
        path.write_bytes(data)
        capture = Capture.from_bytes(path, "scope-1", FileStamp.of(path.stat()), data)
        claim = self.store.claim(capture.identity, capture.sha256, path, "scope-1", capture.stamp).result()
        return capture, claim.scan_id

    def scan(self, data: bytes | None = None, name: str = "lesion.jpg", **about: Any) -> str:
        """A scan answered with 62 % melanoma risk; ``about`` are patient fields, or fields of the answer."""
        capture, scan_id = self.claim(photograph() if data is None else data, name)
        fields = {key: about.pop(key) for key in list(about) if key in Answer.model_fields and key != "patient_id"}
        answer = answer_of(capture, scan_id, patient_id=about.get("patient_id"), **fields)
        self.store.answer(scan_id, answer.model_dump_json(), "cpu", about).result()
        grey = np.full((240, 320, 3), 90, np.uint8)
        write_results(
            self.store.results_folder,
            scan_id,
            self.store.result_bytes(scan_id),
            render_overlay(grey, ATTENTION, answer),
        )
        return scan_id

    def refused(self) -> str:
        """A scan of a capture that is no picture."""
        _, scan_id = self.claim(b"not a picture", "broken.jpg")
        self.store.reject(scan_id, Reason.NOT_A_PICTURE, "This file is not a picture.").result()
        return scan_id

    def verdict(self, scan_id: str, diagnosis: str | None, source: str = "clinician", **more: Any) -> str:
        return self.store.verdict(scan_id, diagnosis, source, **more).result()


def answer_of(capture: Capture, scan_id: str, **changes: Any) -> Answer:
    """An answer with every field."""
    content: dict[str, Any] = {
        "diagnosis": {
            "primary": "melanoma",
            "confidence": SHARES[0],
            "melanoma_risk": SHARES[0],
            "all_classes": dict(zip(CLASSES, SHARES, strict=True)),
        },
        "attention_map": _base64(heatmap_png(ATTENTION)),
        "recommendation": texts.REFER_URGENTLY,
        "model_version": "demo/1.0.0",
        "latency_ms": 412.0,
        "scan_id": scan_id,
        "image_sha256": capture.sha256,
        "clinic_id": "clinic-1",
        "device_id": "device-1",
        "dermoscope_id": "scope-1",
        "patient_id": None,
        "captured_at": AT,
        "answered_at": AT,
        "backend": "cpu",
        "operating": {"threshold": 0.31, "suspicious": True},
        "calibration": {"state": "none"},
        "quality": {
            "width": 320,
            "height": 240,
            "brightness": 0.5,
            "sharpness": 120.0,
            "clipped_share": 0.0,
            "dark_ring_share": 0.0,
        },
        "warnings": (texts.NOT_CALIBRATED,),
        "timings_ms": {"inference": 120.0},
        "software_version": "0.1.0",
        "model_sha256": "ab" * 32,
        "clock_trusted": True,
    }
    return Answer.model_validate({**content, **changes})


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode("ascii")


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    made = Clinic(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def answered(clinic: Clinic) -> Callable[..., str]:
    return clinic.scan
