"""Scans as the agent tells of them, made up for the page's tests: pictures are drawn, figures are chosen."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from agent.answer import texts
from agent.answer.heatmap import heatmap_png
from agent.answer.scan import Answer, Calibration, CalibrationState, Diagnosis, Operating, PassedOver, Quality
from agent.demo.render import render_lesion
from engines.classes import CLASSES

THRESHOLD = 0.1163
Json = dict[str, Any]


def moment(seconds_ago: float = 0.0) -> str:
    """RFC 3339 in UTC to the millisecond, as the agent writes it."""
    at = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


@lru_cache(maxsize=32)
def picture(seed: int, width: int, height: int) -> bytes:
    """A drawn lesion as JPEG."""
    small = render_lesion(seed, 800, 800 * height // width)
    bgr = cv2.resize(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), (width, height))
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())


@lru_cache(maxsize=8)
def heatmap(seed: int) -> str:
    """An attention map with one soft spot, as the answer carries it."""
    rows, columns = np.mgrid[0:14, 0:14]
    spot = np.exp(-((rows - 6 - seed % 3) ** 2 + (columns - 7) ** 2) / 9.0)
    noise = np.random.default_rng(seed).random((14, 14)) * 0.15
    return base64.b64encode(heatmap_png((spot + noise).astype(np.float32))).decode()


def shares(risk: float, primary: str, seed: int) -> dict[str, float]:
    """Seven probabilities that sum to 1, with this melanoma risk and this most probable class."""
    rest = [name for name in CLASSES if name not in {"melanoma", primary}]
    if primary == "melanoma":
        parts = np.random.default_rng(seed).dirichlet(np.ones(len(rest))) * (1.0 - risk)
        return {"melanoma": risk} | dict(zip(rest, map(float, parts), strict=True))
    first = (1.0 - risk) * 0.82
    parts = np.random.default_rng(seed).dirichlet(np.ones(len(rest))) * (1.0 - risk - first)
    return {"melanoma": risk, primary: first} | dict(zip(rest, map(float, parts), strict=True))


def answered(
    seq: int,
    *,
    risk: float = 0.031,
    primary: str = "melanocytic_nevus",
    warnings: tuple[str, ...] = (),
    patient: str | None = "P-1001",
    site: str | None = "left forearm",
    size: tuple[int, int] = (1024, 768),
    seconds_ago: float = 0.0,
    calibration: CalibrationState = CalibrationState.VALID,
    model: str = "clinic-vit/2.1.0",
    passed_over: tuple[PassedOver, ...] = (),
    about: Json | None = None,
) -> Json:
    """A scan with its answer, as ``GET /api/v1/scans/{id}`` gives it."""
    suspicious = risk >= THRESHOLD
    all_classes = shares(risk, primary, seq)
    at = moment(seconds_ago)
    scan_id = hashlib.sha256(f"scan {seq}".encode()).hexdigest()[:26]
    answer = Answer(
        diagnosis=Diagnosis(
            primary=primary, confidence=all_classes[primary], melanoma_risk=risk, all_classes=all_classes
        ),
        attention_map=heatmap(seq % 8),
        recommendation=texts.REFER_URGENTLY if suspicious else texts.ROUTINE,
        model_version=model,
        latency_ms=412.0,
        scan_id=scan_id,
        image_sha256=hashlib.sha256(f"picture {seq}".encode()).hexdigest(),
        clinic_id="clinic-1",
        device_id="device-1",
        dermoscope_id="scope-1",
        patient_id=patient,
        captured_at=datetime.fromisoformat(at.replace("Z", "+00:00")) - timedelta(seconds=2),
        answered_at=datetime.fromisoformat(at.replace("Z", "+00:00")),
        backend="cpu",
        passed_over=passed_over,
        operating=Operating(threshold=THRESHOLD, suspicious=suspicious),
        calibration=Calibration(profile_id="P-2026-11-02", state=calibration, age_days=3.2),
        quality=Quality(
            width=size[0],
            height=size[1],
            brightness=0.6,
            sharpness=50.0,
            clipped_share=0.0,
            dark_ring_share=0.05,
            warnings=warnings,
        ),
        warnings=warnings,
        timings_ms={"decode": 8.0, "inference": 390.0},
        software_version="0.1.0",
        model_sha256="a" * 64,
        clock_trusted=True,
    )
    return {
        "seq": seq,
        "scan_id": scan_id,
        "state": "answered",
        "dermoscope_id": "scope-1",
        "received_at": at,
        "answered_at": at,
        "patient_id": patient,
        "body_site": site,
        "primary": primary,
        "confidence": all_classes[primary],
        "melanoma_risk": risk,
        "threshold": THRESHOLD,
        "suspicious": suspicious,
        "warnings": len(warnings),
        "reason": None,
        "sentence": None,
        "backend": "cpu",
        "latency_ms": 412.0,
        "calibration_state": calibration.value,
        "clock_trusted": True,
        "verdict": None,
        "answer": answer.model_dump(mode="json"),
        "metadata": {"patient_id": patient, "body_site": site, "age": "58", "sex": "female", "skin_type": "II"}
        | (about or {}),
        "verdicts": [],
        "ground_truths": [],
        "cloud": "waiting",
        "links": _links(scan_id, picture=True),
    }


def without_answer(seq: int, *, reason: str | None = None, sentence: str | None = None) -> Json:
    """A capture that was refused, or (without a reason) is being answered."""
    full = answered(seq)
    kept = {"seq", "scan_id", "dermoscope_id", "received_at", "clock_trusted", "verdicts", "ground_truths"}
    empty: Json = {key: (full[key] if key in kept else None) for key in full}
    return empty | {
        "state": "received" if reason is None else "rejected",
        "answered_at": None if reason is None else full["answered_at"],
        "warnings": 0,
        "reason": reason,
        "sentence": sentence,
        "metadata": {},
        "cloud": "none",
        "links": _links(full["scan_id"], picture=False),
    }


def summary(scan: Json) -> Json:
    """The line of the list that belongs to a scan."""
    beyond = {"answer", "metadata", "verdicts", "ground_truths", "cloud", "links"}
    return {key: value for key, value in scan.items() if key not in beyond}


def status() -> Json:
    """A device that does well."""
    return {
        "device_id": "device-1",
        "clinic_id": "clinic-1",
        "software_version": "0.1.0",
        "started_at": moment(9000),
        "uptime_s": 9000.0,
        "ready": True,
        "clock_trusted": True,
        "model": {
            "label": "clinic-vit/2.1.0",
            "sha256": "a" * 64,
            "demo": False,
            "threshold": THRESHOLD,
            "classes": list(CLASSES),
        },
        "rungs": [{"name": "cpu", "state": "ready", "detail": None, "typical_ms": 390.0}],
        "captures": {"in_hand": 0, "waiting": 0},
        "counts": {"received": 0, "answered": 12, "rejected": 1},
        "outbox": {"waiting": 0, "acknowledged": 26, "dead": 0, "oldest_waiting_at": None},
        "cloud": {"configured": True, "phase": "connected", "sentence": "connected"},
        "dermoscopes": [
            {
                "id": "scope-1",
                "folder_ok": True,
                "calibration": {"state": "valid", "profile_id": "P-2026-11-02", "age_days": 3.2, "warnings": []},
            }
        ],
        "disk": {"free_mb": 182_000, "quota_mb": 8192, "used_mb": 740, "full": False},
        "warnings": [],
    }


def _links(scan_id: str, *, picture: bool) -> Json:
    base = f"/api/v1/scans/{scan_id}"
    image = {"image": f"{base}/image", "view": f"{base}/view.jpg"} if picture else {"image": None, "view": None}
    return {"overlay": f"{base}/overlay.png" if picture else None} | image
