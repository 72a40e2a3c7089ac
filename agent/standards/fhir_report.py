"""The FHIR report of a scan: its status, its words, and what it is put together from."""

from __future__ import annotations

import html

from agent.answer import texts
from agent.standards import codes
from agent.standards.dossier import Dossier
from agent.standards.fhir_parts import (
    SCAN,
    Resource,
    clinic,
    concept,
    effective,
    identifier,
    known,
    reference,
    subject,
    without_empty,
)
from agent.standards.objects import CLOCK_NOT_TRUSTED
from agent.standards.taken_over import TakenOver
from agent.standards.words import clean, usable

ID_LEFT_OUT = "The patient's id on the device holds control characters and was left out. Match this by the scan's id."


def status_of(dossier: Dossier) -> str:
    """The report's status (R4, DiagnosticReportStatus)."""
    if dossier.judged:
        said = sum(one.diagnosis is not None for one in dossier.verdicts) + len(dossier.truths)
        return "final" if said == 1 else "amended"
    return "preliminary" if dossier.answer is not None else "cancelled"


def report(dossier: Dossier, taken: TakenOver, results: list[str], media: str | None) -> Resource:
    """The DiagnosticReport; ``results`` are the observations' URLs and ``media`` the picture's."""
    accession = taken.values.get("AccessionNumber")
    order = {**known("v2-0203", "ACSN", "Accession ID"), "text": "Accession number"}
    standing = dossier.truth or dossier.verdict
    lines = _lines(dossier)
    return without_empty(
        {
            "resourceType": "DiagnosticReport",
            "text": {
                "status": "generated",
                "div": '<div xmlns="http://www.w3.org/1999/xhtml">'
                + "".join(f"<p>{html.escape(line)}</p>" for line in lines)
                + "</div>",
            },
            "identifier": [identifier(SCAN, dossier.scan_id)],
            "basedOn": [{"type": "ServiceRequest", "identifier": {"type": order, "value": accession}}]
            if accession
            else [],
            "status": status_of(dossier),
            "category": [known("v2-0074", "IMG", "Diagnostic Imaging")],
            "code": concept(codes.REPORT),
            "subject": subject(dossier),
            "effectiveDateTime": effective(dossier),
            "issued": dossier.changed_at,
            "performer": clinic(dossier),
            "result": [reference(url, "Observation") for url in results],
            "imagingStudy": [
                {"type": "ImagingStudy", "identifier": identifier("urn:dicom:uid", f"urn:oid:{taken.study_uid}")}
            ]
            if taken.study_uid
            else [],
            "media": [{"comment": "The picture and where the model looked", "link": reference(media, "Media")}]
            if media
            else [],
            "conclusion": "\n".join(lines),
            # A coded conclusion is what problem lists are filled from: only a person's diagnosis gets there.
            "conclusionCode": [concept(codes.class_code(str(standing.diagnosis)))] if standing else [],
        }
    )


def _lines(dossier: Dossier) -> list[str]:
    """The report in plain words: what must be known before it, then the result, then what people said."""
    answer = dossier.answer
    lines: list[str] = []
    if dossier.patient_id is not None and not usable(dossier.patient_id):
        lines.append(f"Note: {ID_LEFT_OUT}")
    if not dossier.clock_trusted:
        lines.append(f"Note: {CLOCK_NOT_TRUSTED}")
    if answer is None:
        lines += ["The capture was refused; the model said nothing.", dossier.sentence or ""]
    else:
        lines += [f"Note: {warning}" for warning in answer.warnings]
        side = "at or above" if answer.operating.suspicious else "below"
        risk, threshold = answer.diagnosis.melanoma_risk, answer.operating.threshold
        lines += [
            f"Melanoma risk {risk:.1%}, {side} the operating threshold of {threshold:.1%}.",
            f"Suggestion: {_name(answer.diagnosis.primary)}, confidence {answer.diagnosis.confidence:.1%}.",
            answer.recommendation,
            texts.ADJUNCT,
        ]
    if dossier.verdict is not None:
        source = codes.source_code(dossier.verdict.source).meaning
        lines.append(f"Verdict: {_name(str(dossier.verdict.diagnosis))} ({source}).")
    elif dossier.withdrawn is not None:
        lines.append("An earlier verdict was withdrawn.")
    if dossier.truth is not None:
        lines.append(f"Histopathology: {_name(dossier.truth.diagnosis)}.")
    return [clean(line) for line in lines if line]


def _name(diagnosis: str) -> str:
    return texts.CLASS_NAMES.get(diagnosis, diagnosis.replace("_", " "))
