"""A scan as a FHIR R4 (4.0.1) bundle: report, observations, device and model, and the overlay's picture.

The report is *preliminary* until a person's verdict (or histopathology) stands, then *final*, and *amended* where a
later one superseded it. A verdict that was withdrawn makes it *preliminary* again, and the withdrawn Observation says
*entered-in-error*. A refused capture gives a *cancelled* report with the reason. Every resource keeps its id, so that a
receiver that replaces by id always has the last word.
"""

from __future__ import annotations

import base64
import hashlib
import json

from agent.answer.scan import Answer
from agent.standards.dossier import Dossier
from agent.standards.fhir_observations import classes, risk, verdicts
from agent.standards.fhir_parts import (
    DEVICE,
    IMAGE,
    MODEL,
    URI,
    Resource,
    effective,
    identifier,
    known,
    reference,
    subject,
    url_of,
    without_empty,
)
from agent.standards.fhir_report import report
from agent.standards.files import ExportFile
from agent.standards.identity import uuid_of
from agent.standards.material import Material
from agent.standards.objects import PRODUCT
from agent.standards.taken_over import take_over
from agent.standards.words import clean

CONTENT_TYPE = "application/fhir+json"


def fhir_files(material: Material) -> tuple[ExportFile, ...]:
    """The bundle, as one file."""
    dossier = material.dossier
    text = json.dumps(bundle(material), ensure_ascii=False, indent=1)
    name = f"{dossier.scan_id}.v{dossier.version}.fhir.json"
    return (ExportFile(name, text.encode("utf-8", "replace"), CONTENT_TYPE),)


def bundle(material: Material) -> Resource:
    """The bundle as JSON's own types; built twice it is the same."""
    dossier = material.dossier
    taken = take_over(material)
    entries: list[tuple[str, Resource]] = []
    media = url_of(dossier, "media") if material.overlay is not None else None
    # Of the device and its model there is one each, whatever the scan.
    device = f"urn:uuid:{uuid_of('fhir', 'device', dossier.device_id)}"
    model = f"urn:uuid:{uuid_of('fhir', 'model', dossier.answer.model_sha256 if dossier.answer else '')}"
    if dossier.answer is not None:
        entries.append((url_of(dossier, "risk"), risk(dossier, dossier.answer, model, media)))
        entries.append((url_of(dossier, "classes"), classes(dossier, dossier.answer, model, media)))
    entries += [(url_of(dossier, name), one) for name, one in verdicts(dossier)]
    results = [url for url, one in entries if one["status"] != "entered-in-error"]
    report_url = url_of(dossier, "report")
    first = report(dossier, taken, results, media)
    entries.insert(0, (report_url, first))
    if media is not None and material.overlay is not None and dossier.answer is not None:
        entries.append((media, _media(dossier, dossier.answer, material.overlay, device)))
    entries.append((device, _device(dossier)))
    if dossier.answer is not None:
        entries.append((model, _model(dossier.answer, device)))
    entries.append((url_of(dossier, "provenance"), _provenance(dossier, report_url, device)))
    return {
        "resourceType": "Bundle",
        "identifier": identifier(URI, f"urn:uuid:{uuid_of(dossier.scan_id, 'fhir', 'bundle')}"),
        "type": "collection",
        "timestamp": dossier.changed_at,
        "entry": [
            {"fullUrl": url, "resource": {**resource, "id": url.removeprefix("urn:uuid:")}} for url, resource in entries
        ],
    }


def _media(dossier: Dossier, answer: Answer, overlay: bytes, device: str) -> Resource:
    site = dossier.metadata.get("body_site")
    return without_empty(
        {
            "resourceType": "Media",
            "identifier": [identifier(IMAGE, answer.image_sha256)],
            "status": "completed",
            "type": known("media-type", "image", "Image"),
            "subject": subject(dossier),
            "createdDateTime": effective(dossier),
            "bodySite": {"text": clean(site)} if site else None,
            "deviceName": dossier.dermoscope_id,
            "device": reference(device, "Device"),
            "content": {
                "contentType": "image/png",
                "data": base64.b64encode(overlay).decode("ascii"),
                "size": len(overlay),
                "hash": base64.b64encode(hashlib.sha1(overlay, usedforsecurity=False).digest()).decode("ascii"),
                "title": "Captured picture beside where the model looked",
            },
        }
    )


def _device(dossier: Dossier) -> Resource:
    version = dossier.answer.software_version if dossier.answer else None
    return without_empty(
        {
            "resourceType": "Device",
            "identifier": [identifier(DEVICE, dossier.device_id)],
            "status": "active",
            "manufacturer": PRODUCT,
            "serialNumber": dossier.device_id,
            "deviceName": [{"name": PRODUCT, "type": "model-name"}],
            "type": {"text": "Dermoscopy inference device"},
            "version": [{"type": {"text": "software"}, "value": version}] if version else [],
        }
    )


def _model(answer: Answer, device: str) -> Resource:
    name, _, version = answer.model_version.rpartition("/")
    return {
        "resourceType": "Device",
        "identifier": [identifier(MODEL, answer.model_sha256)],
        "status": "active",
        "manufacturer": PRODUCT,
        "deviceName": [{"name": name or answer.model_version, "type": "model-name"}],
        "type": {"text": "Image classifier (software)"},
        "version": [{"type": {"text": "model"}, "value": version}],
        "parent": reference(device, "Device"),
    }


def _provenance(dossier: Dossier, report: str, device: str) -> Resource:
    source = identifier(IMAGE, dossier.image_sha256) if dossier.image_sha256 else None
    return without_empty(
        {
            "resourceType": "Provenance",
            "target": [reference(report, "DiagnosticReport")],
            "recorded": dossier.changed_at,
            "activity": {"text": "Dermoscopic picture classified on the device"},
            "agent": [
                {
                    "type": known("provenance-participant-type", "assembler", "Assembler"),
                    "who": reference(device, "Device"),
                }
            ],
            "entity": [{"role": "source", "what": {"identifier": source, "display": "The captured picture"}}]
            if source
            else [],
        }
    )
