"""An example of each message, for its readers; the tests hold every one against its schema. All people are made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.messages.catalogue import (
    ACK,
    ALERT,
    COMMAND,
    COMMAND_REPLY,
    FEEDBACK,
    GROUND_TRUTH,
    RESULT,
    STATUS,
    TELEMETRY,
    MessageType,
)
from agent.messages.envelope import Sender, event_bytes

DEVICE: Final = Sender("clinic-a", "clinic-a-room-2", "0.1.0")
SCAN: Final = "0b0f7a0e-9d0a-5d1c-8a55-6f1f2c3d4e5f"
SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
AT: Final = "2026-11-23T09:30:00.000Z"


@dataclass(frozen=True)
class Example:
    """An event and what it shows."""

    name: str
    event: dict[str, Any]


def _example(name: str, message: MessageType, subject: str, seq: int | None, data: Mapping[str, Any]) -> Example:
    model = message.model.model_validate_json(json.dumps(data))
    event_id = f"00000000-0000-5000-8000-{abs(hash_of(name)):012d}"
    payload = event_bytes(DEVICE, message, event_id=event_id, subject=subject, seq=seq, time=AT, data=model)
    return Example(name, json.loads(payload))


def hash_of(name: str) -> int:
    """A small number that is the same in every run."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate(name))


_ANSWERED: Final = {
    "state": "answered",
    "scan_id": SCAN,
    "clinic_id": DEVICE.clinic_id,
    "device_id": DEVICE.device_id,
    "dermoscope_id": "scope-1",
    "image_sha256": SHA256,
    "diagnosis": {
        "primary": "melanocytic_nevus",
        "confidence": 0.81,
        "melanoma_risk": 0.09,
        "all_classes": {
            "melanoma": 0.09,
            "basal_cell_carcinoma": 0.01,
            "benign_keratosis": 0.06,
            "dermatofibroma": 0.01,
            "melanocytic_nevus": 0.81,
            "vascular_lesion": 0.01,
            "actinic_keratosis": 0.01,
        },
    },
    "operating": {"threshold": 0.1163, "suspicious": False},
    "attention_map": "iVBORw0KGgo=",
    "recommendation": "Melanoma risk near the operating threshold: seek a second opinion.",
    "model_version": "demo/1.0.0",
    "model_sha256": SHA256,
    "software_version": DEVICE.software_version,
    "backend": "cpu",
    "passed_over": [{"backend": "tensorrt", "reason": "not ready"}],
    "latency_ms": 41.2,
    "timings_ms": {"decode": 2.4, "inference": 21.7},
    "calibration": {"profile_id": "cal-20261120-1a2b3c4d", "state": "valid", "age_days": 3.0},
    "quality": {
        "width": 1024,
        "height": 768,
        "brightness": 0.6,
        "sharpness": 120.5,
        "clipped_share": 0.0,
        "dark_ring_share": 0.1,
        "warnings": [],
    },
    "warnings": [],
    "captured_at": "2026-11-23T09:29:58Z",
    "answered_at": AT,
    "clock_trusted": True,
}
_REJECTED: Final = {
    "state": "rejected",
    "scan_id": SCAN,
    "clinic_id": DEVICE.clinic_id,
    "device_id": DEVICE.device_id,
    "dermoscope_id": "scope-1",
    "image_sha256": SHA256,
    "reason": "truncated",
    "sentence": "The file ends before the picture does. Copy the file again, or take the picture again.",
    "received_at": AT,
    "finished_at": AT,
    "software_version": DEVICE.software_version,
    "clock_trusted": True,
}
_SUGGESTION: Final = {
    "primary": "melanocytic_nevus",
    "melanoma_risk": 0.09,
    "suspicious": False,
    "model_version": "demo/1.0.0",
}

EXAMPLES: Final[Mapping[MessageType, tuple[Example, ...]]] = {
    RESULT: (
        _example("answered", RESULT, SCAN, 1041, _ANSWERED),
        _example("refused", RESULT, SCAN, 1042, _REJECTED),
    ),
    FEEDBACK: (
        _example(
            "corrected by histopathology",
            FEEDBACK,
            SCAN,
            17,
            {
                "verdict_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
                "scan_id": SCAN,
                "image_sha256": SHA256,
                "diagnosis": "melanoma",
                "source": "histopathology",
                "agreement": "correction",
                "supersedes": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
                "suggestion": _SUGGESTION,
                "given_at": AT,
                "clock_trusted": True,
            },
        ),
        _example(
            "withdrawn",
            FEEDBACK,
            SCAN,
            18,
            {
                "verdict_id": "9a1b8f5e-20a4-4f0c-8f6d-6c1d3c9d7e11",
                "scan_id": SCAN,
                "image_sha256": SHA256,
                "diagnosis": None,
                "source": "clinician",
                "agreement": "withdrawn",
                "supersedes": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
                "suggestion": _SUGGESTION,
                "given_at": AT,
                "clock_trusted": True,
            },
        ),
    ),
    ALERT: (
        _example(
            "colours have drifted",
            ALERT,
            "scope-1",
            5,
            {
                "kind": "colour_drift",
                "sentence": "The colours have drifted since commissioning: clean the lens, check the lamp.",
                "dermoscope_id": "scope-1",
                "profile_id": "cal-20261120-1a2b3c4d",
                "light": 4.2,
                "light_limit": 3.0,
                "skin": 3.1,
                "skin_limit": 3.0,
            },
        ),
    ),
    COMMAND_REPLY: (
        _example(
            "a hint was recorded",
            COMMAND_REPLY,
            DEVICE.device_id,
            6,
            {
                "command_id": "c1",
                "command": "model-available",
                "outcome": "recorded",
                "sentence": "A new model is available; a person at the device decides.",
            },
        ),
    ),
    TELEMETRY: (
        _example(
            "asked for",
            TELEMETRY,
            DEVICE.device_id,
            7,
            {"report": "asked", "figures": {"scans_answered": 1040, "outbox_waiting": 2}},
        ),
    ),
    STATUS: (
        _example(
            "online", STATUS, DEVICE.device_id, None, {"state": "online", "software_version": "0.1.0", "since": AT}
        ),
        _example("lost", STATUS, DEVICE.device_id, None, {"state": "lost", "software_version": "0.1.0"}),
    ),
    ACK: (_example("two events are committed", ACK, DEVICE.device_id, None, {"ids": ["event-1", "event-2"]}),),
    GROUND_TRUTH: (
        _example(
            "histopathology",
            GROUND_TRUTH,
            SCAN,
            None,
            {"scan_id": SCAN, "diagnosis": "melanoma", "source": "histopathology", "reported_at": AT},
        ),
    ),
    COMMAND: (
        _example("send what waits", COMMAND, DEVICE.device_id, None, {"command": "sync-now"}),
        _example(
            "a new model", COMMAND, DEVICE.device_id, None, {"command": "model-available", "model": "derma/2.0.0"}
        ),
    ),
}
"""At least one for each message."""
