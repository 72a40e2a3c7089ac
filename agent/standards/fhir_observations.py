"""The FHIR observations of a scan: the melanoma risk, the class probabilities, and what people said since."""

from __future__ import annotations

from typing import Any

from agent.answer import texts
from agent.answer.scan import Answer
from agent.standards import codes
from agent.standards.dossier import Dossier
from agent.standards.fhir_parts import (
    Resource,
    clinic,
    concept,
    effective,
    known,
    ratio,
    reference,
    subject,
    without_empty,
)
from agent.standards.words import clean


def _observation(dossier: Dossier, status: str, code: Resource, **more: Any) -> Resource:
    site = dossier.metadata.get("body_site")
    return without_empty(
        {
            "resourceType": "Observation",
            "status": status,
            "category": [known("observation-category", "imaging", "Imaging")],
            "code": code,
            "subject": subject(dossier),
            "effectiveDateTime": effective(dossier),
            "bodySite": {"text": clean(site)} if site else None,
            **more,
        }
    )


def risk(dossier: Dossier, answer: Answer, model: str, media: str | None) -> Resource:
    """The melanoma risk, with the operating threshold as its reference; ``model`` and ``media`` are their URLs."""
    suspicious = answer.operating.suspicious
    return _observation(
        dossier,
        "final" if dossier.judged else "preliminary",
        concept(codes.RISK),
        issued=dossier.finished_at,
        performer=clinic(dossier),
        valueQuantity=ratio(answer.diagnosis.melanoma_risk),
        # Only the one side has a code: "normal" would be leave to ignore a clinician's own suspicion.
        interpretation=[
            {**known("v3-ObservationInterpretation", "H", "High"), "text": codes.AT_OR_ABOVE.meaning}
            if suspicious
            else {"text": codes.BELOW.meaning}
        ],
        note=[{"text": clean(warning)} for warning in answer.warnings],
        method={"text": f"Image classifier {clean(answer.model_version)}"},
        device=reference(model, "Device"),
        referenceRange=[
            {
                "high": ratio(answer.operating.threshold),
                "type": concept(codes.THRESHOLD),
                "text": "Below the operating threshold of the model; this is no statement that a lesion is harmless",
            }
        ],
        derivedFrom=[reference(media, "Media")] if media else [],
    )


def classes(dossier: Dossier, answer: Answer, model: str, media: str | None) -> Resource:
    """The seven class probabilities."""
    return _observation(
        dossier,
        "final" if dossier.judged else "preliminary",
        concept(codes.PROBABILITY_SET),
        issued=dossier.finished_at,
        performer=clinic(dossier),
        note=[{"text": texts.ADJUNCT}],
        device=reference(model, "Device"),
        derivedFrom=[reference(media, "Media")] if media else [],
        component=[
            {"code": concept(codes.probability_code(name)), "valueQuantity": ratio(share)}
            for name, share in answer.diagnosis.all_classes.items()
        ],
    )


def verdicts(dossier: Dossier) -> list[tuple[str, Resource]]:
    """The verdict and histopathology as one Observation each, which later exports replace."""
    found = []
    said = [one for one in dossier.verdicts if one.diagnosis is not None]
    if said:
        last = said[-1]
        status = "entered-in-error" if dossier.verdict is None else "final" if len(said) == 1 else "amended"
        found.append(
            (
                "verdict",
                _observation(
                    dossier,
                    status,
                    concept(codes.VERDICT),
                    issued=last.given_at,
                    performer=clinic(dossier),
                    valueCodeableConcept=concept(codes.class_code(str(last.diagnosis))),
                    method=concept(codes.source_code(last.source)),
                ),
            )
        )
    if dossier.truth is not None:
        found.append(
            (
                "histopathology",
                _observation(
                    dossier,
                    "final" if len(dossier.truths) == 1 else "amended",
                    concept(codes.HISTOPATHOLOGY),
                    issued=dossier.truth.at,
                    valueCodeableConcept=concept(codes.class_code(dossier.truth.diagnosis)),
                    method=concept(codes.source_code(dossier.truth.source)),
                ),
            )
        )
    return found
