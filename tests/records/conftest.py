"""A store in a folder of its own, and what goes into it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from agent.answer.scan import Answer, Calibration, Diagnosis, Operating, Quality
from agent.intake.capture import FileStamp
from agent.records.store import Claim, Store

CLASSES = ("melanoma", "basal_cell_carcinoma", "benign_keratosis", "dermatofibroma")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def open_store(state_dir: Path) -> Iterator[Callable[..., Store]]:
    """Open the store of ``state_dir``; whatever is open at the test's end is closed."""
    opened: list[Store] = []

    def open_it(device_id: str = "device-1", quota_mb: int = 256) -> Store:
        opened.append(Store.open(state_dir, device_id, quota_mb, clinic_id="clinic-1", software_version="9.9"))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def claim() -> Callable[..., Claim]:
    """Claim a made-up content by its name and wait for it."""

    def claim_it(store: Store, name: str = "a", path: str | None = None, inode: int = 7) -> Claim:
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        place = Path(path or f"/scope/{name}.jpg")
        return store.claim(f"sha256:{sha256}", sha256, place, "scope-1", FileStamp(1, inode, 3, 4, 5)).result(10)

    return claim_it


@pytest.fixture
def answer_json() -> Callable[..., str]:
    """A valid answer for a scan, with a patient in it."""

    def make(scan_id: str, *, attention_bytes: int = 2000) -> str:
        answer = Answer(
            diagnosis=Diagnosis(
                primary="melanoma", confidence=0.7, melanoma_risk=0.7, all_classes=dict.fromkeys(CLASSES, 0.25)
            ),
            attention_map="A" * attention_bytes,
            recommendation="Refer.",
            model_version="demo/1",
            latency_ms=12.5,
            scan_id=scan_id,
            image_sha256="0" * 64,
            clinic_id="clinic-1",
            device_id="device-1",
            dermoscope_id="scope-1",
            patient_id="CANARY-PATIENT",
            answered_at=datetime(2026, 1, 2, tzinfo=timezone.utc),
            backend="cpu",
            operating=Operating(threshold=0.3, suspicious=True),
            calibration=Calibration(),
            quality=Quality(width=1, height=1, brightness=0.5, sharpness=1.0, clipped_share=0.0, dark_ring_share=0.0),
            timings_ms={},
            software_version="9.9",
            model_sha256="1" * 64,
            clock_trusted=True,
        )
        return answer.model_dump_json()

    return make
