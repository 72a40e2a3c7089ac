"""Small pieces of FHIR R4 that the bundle is put together from: plain dictionaries, checked in the tests."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from agent.standards.codes import SYSTEMS, Code
from agent.standards.dossier import Dossier
from agent.standards.identity import uuid_of
from agent.standards.words import usable

Resource = dict[str, Any]
URI: Final = "urn:ietf:rfc:3986"
"""The identifier system of values that are URIs themselves."""
SCAN: Final = "urn:dermascan:scan"
DEVICE: Final = "urn:dermascan:device"
MODEL: Final = "urn:dermascan:model-sha256"
CLINIC: Final = "urn:dermascan:clinic"
IMAGE: Final = "urn:dermascan:image-sha256"


def concept(code: Code, text: str | None = None) -> Resource:
    """A CodeableConcept."""
    coding = {"system": SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}
    return {"coding": [coding], "text": text or code.meaning}


def known(system: str, code: str, display: str) -> Resource:
    """A CodeableConcept of one of HL7's own code systems."""
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code, "display": display}]}


def ratio(value: float) -> Resource:
    """A Quantity from 0 to 1."""
    return {"value": value, "unit": "1", "system": SYSTEMS["UCUM"], "code": "1"}


def identifier(system: str, value: str) -> Resource:
    """An Identifier."""
    return {"system": system, "value": value}


def url_of(dossier: Dossier, *name: str) -> str:
    """``fullUrl`` of a resource of this scan: the same in every export, so that a later one replaces it."""
    return f"urn:uuid:{uuid_of(dossier.scan_id, 'fhir', *name)}"


def reference(url: str, kind: str) -> Resource:
    """A Reference to a resource of the bundle."""
    return {"reference": url, "type": kind}


def subject(dossier: Dossier) -> Resource | None:
    """The patient by the clinic's id, and nothing else: no Patient is made up. None where nobody is named."""
    patient_id = dossier.patient_id
    if patient_id is None or not usable(patient_id):
        return None
    return {"type": "Patient", "identifier": {"value": patient_id}}


def clinic(dossier: Dossier) -> list[Resource]:
    """Who answers for it: the clinic, by its id on the device."""
    if not dossier.clinic_id:
        return []
    return [{"type": "Organization", "identifier": identifier(CLINIC, dossier.clinic_id)}]


def date_time(at: datetime) -> str:
    """A dateTime. FHIR wants a zone with a time of day: of a camera that names none, the day is all that is said."""
    return at.isoformat(timespec="milliseconds") if at.tzinfo is not None else at.date().isoformat()


def effective(dossier: Dossier) -> str:
    """When the picture was taken, as far as it is known; else when it arrived."""
    captured = dossier.answer.captured_at if dossier.answer else None
    return date_time(captured) if captured else dossier.received_at


def without_empty(resource: Resource) -> Resource:
    """A resource without the members that say nothing, which FHIR does not allow."""
    return {key: value for key, value in resource.items() if value not in (None, "", [], {})}
