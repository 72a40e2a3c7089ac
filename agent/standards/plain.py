"""A scan as JSON: the product's own answer, with what was said of it since, for programs of the clinic."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from agent.standards.files import ExportFile
from agent.standards.material import Material

SCHEMA: Final = "dermascan-export/1"
CONTENT_TYPE: Final = "application/json"


def json_files(material: Material) -> tuple[ExportFile, ...]:
    """The scan, as one file."""
    dossier = material.dossier
    text = json.dumps(content(material), ensure_ascii=False, indent=2) + "\n"
    return (ExportFile(f"{dossier.scan_id}.v{dossier.version}.json", text.encode("utf-8", "replace"), CONTENT_TYPE),)


def content(material: Material) -> dict[str, Any]:
    """The scan as JSON's own types. ``answer`` is the design's answer; None where the capture was refused."""
    dossier = material.dossier
    return {
        "schema": SCHEMA,
        "scan_id": dossier.scan_id,
        "version": dossier.version,
        "state": dossier.state.value,
        "reason": dossier.reason,
        "sentence": dossier.sentence,
        "device_id": dossier.device_id,
        "clinic_id": dossier.clinic_id,
        "dermoscope_id": dossier.dermoscope_id,
        "image_sha256": dossier.image_sha256,
        "received_at": dossier.received_at,
        "finished_at": dossier.finished_at,
        "clock_trusted": dossier.clock_trusted,
        "patient": {"patient_id": dossier.patient_id, **dossier.metadata},
        "answer": None if dossier.answer is None else dossier.answer.model_dump(mode="json"),
        "verdict": None if dossier.verdict is None else dossier.verdict.verdict_id,
        "verdicts": [asdict(one) for one in dossier.verdicts],
        "histopathology": [asdict(one) for one in dossier.truths],
    }
