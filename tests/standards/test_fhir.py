"""The FHIR bundle: held against FHIR's own definitions, and against what a receiver does with it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from agent.answer import texts
from agent.standards import codes
from agent.standards.dossier import Histopathology
from agent.standards.export import Format, export, export_scan
from agent.standards.fhir import bundle
from agent.standards.material import gather
from tests.standards.conftest import SHARES, Clinic

REQUIRED_IN_R4: dict[str, set[str]] = {
    "DiagnosticReport": {"status", "code"},
    "Observation": {"status", "code"},
    "Media": {"status", "content"},
    "Device": set(),
    "Provenance": {"target", "recorded", "agent"},
}
ALLOWED_STATUS: dict[str, set[str]] = {
    "DiagnosticReport": {"preliminary", "final", "amended", "cancelled"},
    "Observation": {"preliminary", "final", "amended", "entered-in-error"},
    "Media": {"completed"},
    "Device": {"active"},
}
NOT_IN_R4 = {
    # Elements that R4B or R5 have and R4 (4.0.1) has not, of the resources that are used here.
    "DiagnosticReport": {"note", "supportingInfo", "composition", "study"},
    "Observation": {"instantiatesCanonical", "instantiatesReference", "triggeredBy", "bodyStructure"},
    "Device": {"name", "displayName", "deviceVersion", "conformsTo", "category", "biologicalSourceEvent", "mode"},
    "Media": {"publishedDate"},
    "Provenance": {"basedOn", "encounter", "patient", "occurredAge"},
}


def resources(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """A bundle's resources, by their kind."""
    sorted_: dict[str, list[dict[str, Any]]] = {}
    for entry in found["entry"]:
        sorted_.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return sorted_


def observation(found: dict[str, Any], code: codes.Code) -> dict[str, Any]:
    (one,) = [x for x in resources(found)["Observation"] if x["code"]["coding"][0]["code"] == code.value]
    return one


def check(found: dict[str, Any]) -> None:
    """Hold a bundle against FHIR R4.

    ``fhir.resources`` 8 has R5 at its top and 4.3.0 (R4B) below; 4.0.1 itself it has not. The resources used here did
    not change from R4 to R4B but for what NOT_IN_R4 names; `fhirclient` is 4.0.1 and is asked too where it is there.
    """
    pytest.importorskip("fhir.resources", reason="fhir.resources is not installed here")
    from fhir.resources.R4B.bundle import Bundle

    Bundle.model_validate_json(json.dumps(found))
    urls = [entry["fullUrl"] for entry in found["entry"]]
    assert len(set(urls)) == len(urls)
    assert not list(referred(found) - set(urls))
    for entry in found["entry"]:
        resource = entry["resource"]
        kind = resource["resourceType"]
        assert entry["fullUrl"] == f"urn:uuid:{resource['id']}"
        assert REQUIRED_IN_R4[kind] <= set(resource), kind
        assert not NOT_IN_R4[kind] & set(resource), kind
        if kind in ALLOWED_STATUS:
            assert resource["status"] in ALLOWED_STATUS[kind]
        if "component" in resource:  # obs-7
            assert resource["code"] not in [one["code"] for one in resource["component"]]
    assert not list(nothings(found))


def referred(part: Any) -> set[str]:
    """Every URL that is referred to."""
    if isinstance(part, dict):
        own = {part["reference"]} if "reference" in part else set()
        return own.union(*(referred(value) for value in part.values()), set())
    return set().union(*(referred(value) for value in part)) if isinstance(part, list) else set()


def nothings(part: Any, path: str = "") -> list[str]:
    """Where a member says nothing, which FHIR does not allow (ele-1)."""
    if part in (None, "", [], {}):
        return [path]
    if isinstance(part, dict):
        return [fault for key, value in part.items() for fault in nothings(value, f"{path}.{key}")]
    return [fault for value in part for fault in nothings(value, path)] if isinstance(part, list) else []


def bundle_of(clinic: Clinic, scan_id: str) -> dict[str, Any]:
    found = bundle(gather(clinic.state_dir, scan_id))
    check(found)
    return found


def test_an_answer_without_a_verdict(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="P-1 Ü", body_site="left forearm")
    found = bundle_of(clinic, scan_id)
    kinds = {kind: len(some) for kind, some in resources(found).items()}
    assert kinds == {"DiagnosticReport": 1, "Observation": 2, "Media": 1, "Device": 2, "Provenance": 1}
    report = found["entry"][0]["resource"]
    assert report["status"] == "preliminary"
    assert report["subject"] == {"type": "Patient", "identifier": {"value": "P-1 Ü"}}
    assert "conclusionCode" not in report
    assert "basedOn" not in report
    assert report["conclusion"].splitlines()[0] == f"Note: {texts.NOT_CALIBRATED}"
    assert texts.ADJUNCT in report["conclusion"]
    assert len(report["result"]) == 2
    risk = observation(found, codes.RISK)
    assert risk["valueQuantity"] == {
        "value": SHARES[0],
        "unit": "1",
        "system": "http://unitsofmeasure.org",
        "code": "1",
    }
    assert risk["referenceRange"][0]["high"]["value"] == 0.31
    assert risk["referenceRange"][0]["type"]["coding"][0]["code"] == "MEL-THRESHOLD"  # absent would mean "normal"
    assert risk["interpretation"][0]["coding"][0]["code"] == "H"
    assert risk["bodySite"] == {"text": "left forearm"}
    shares = [one["valueQuantity"]["value"] for one in observation(found, codes.PROBABILITY_SET)["component"]]
    assert shares == list(SHARES)
    device, model = resources(found)["Device"]
    assert device["version"][0]["value"] == "0.1.0"
    assert model["deviceName"][0]["name"] == "demo"
    assert model["version"][0]["value"] == "1.0.0"
    assert model["identifier"][0]["value"] == "ab" * 32
    assert "udiCarrier" not in device | model


def test_the_picture_is_in_it(clinic: Clinic) -> None:
    import base64
    import hashlib

    scan_id = clinic.scan()
    material = gather(clinic.state_dir, scan_id)
    (media,) = resources(bundle(material))["Media"]
    data = base64.b64decode(media["content"]["data"])
    assert data == material.overlay
    assert media["content"]["size"] == len(data)
    assert base64.b64decode(media["content"]["hash"]) == hashlib.sha1(data, usedforsecurity=False).digest()


def test_never_normal_and_never_benign(clinic: Clinic) -> None:
    from agent.answer.scan import Operating

    material = gather(clinic.state_dir, clinic.scan())
    assert material.dossier.answer is not None
    answer = material.dossier.answer.model_copy(update={"operating": Operating(threshold=0.9, suspicious=False)})
    found = bundle(replace(material, dossier=replace(material.dossier, answer=answer)))
    check(found)
    risk = observation(found, codes.RISK)
    assert risk["interpretation"] == [{"text": codes.BELOW.meaning}]
    words = json.dumps({**found, "entry": [one for one in found["entry"] if "content" not in one["resource"]]}).lower()
    assert "benign" not in words
    assert "normal" not in words


def test_a_verdict_makes_it_final(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    before = bundle_of(clinic, scan_id)
    clinic.now += timedelta(hours=1)
    clinic.verdict(scan_id, "melanocytic_nevus", by="Dr CANARY", note="CANARY")
    found = bundle_of(clinic, scan_id)
    report = found["entry"][0]["resource"]
    assert report["status"] == "final"
    assert report["id"] == before["entry"][0]["resource"]["id"]
    assert report["issued"] > before["entry"][0]["resource"]["issued"]
    assert report["conclusionCode"][0]["coding"][0]["code"] == "400096001"
    verdict = observation(found, codes.VERDICT)
    assert verdict["status"] == "final"
    assert verdict["method"]["coding"][0]["code"] == "CLINICIAN"
    assert "CANARY" not in json.dumps(found)


def test_a_later_verdict_amends_it(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    clinic.verdict(scan_id, "melanocytic_nevus")
    first = observation(bundle_of(clinic, scan_id), codes.VERDICT)
    clinic.verdict(scan_id, "melanoma", "histopathology")
    found = bundle_of(clinic, scan_id)
    assert found["entry"][0]["resource"]["status"] == "amended"
    assert found["entry"][0]["resource"]["conclusionCode"][0]["coding"][0]["code"] == "93655004"
    second = observation(found, codes.VERDICT)
    assert (second["id"], second["status"]) == (first["id"], "amended")
    assert len(found["entry"][0]["resource"]["result"]) == 3


def test_a_withdrawn_verdict(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    clinic.verdict(scan_id, "melanoma")
    material = gather(clinic.state_dir, scan_id)
    given = observation(bundle(material), codes.VERDICT)
    clinic.verdict(scan_id, None)
    found = bundle_of(clinic, scan_id)
    report = found["entry"][0]["resource"]
    assert report["status"] == "preliminary"
    assert "conclusionCode" not in report
    assert "withdrawn" in report["conclusion"]
    gone = observation(found, codes.VERDICT)
    assert (gone["id"], gone["status"]) == (given["id"], "entered-in-error")
    assert f"urn:uuid:{gone['id']}" not in [one["reference"] for one in report["result"]]
    clinic.verdict(scan_id, "dermatofibroma")  # and another one after all
    again = bundle_of(clinic, scan_id)
    assert again["entry"][0]["resource"]["status"] == "amended"
    assert observation(again, codes.VERDICT)["status"] == "amended"


def test_histopathology_from_the_cloud(clinic: Clinic) -> None:
    material = gather(clinic.state_dir, clinic.scan())
    truth = Histopathology("e1", "melanoma", "histopathology", "2026-11-25T08:00:00.000Z")
    found = bundle(replace(material, dossier=replace(material.dossier, truths=(truth,))))
    check(found)
    assert found["entry"][0]["resource"]["status"] == "final"
    assert observation(found, codes.HISTOPATHOLOGY)["issued"] == truth.at
    assert found["timestamp"] == truth.at


def test_a_refused_capture(clinic: Clinic) -> None:
    scan_id = clinic.refused()
    found = bundle_of(clinic, scan_id)
    report = found["entry"][0]["resource"]
    assert report["status"] == "cancelled"
    assert "This file is not a picture." in report["conclusion"]
    assert "result" not in report
    assert set(resources(found)) == {"DiagnosticReport", "Device", "Provenance"}
    clinic.verdict(scan_id, "melanoma", "histopathology")
    judged = bundle_of(clinic, scan_id)
    assert judged["entry"][0]["resource"]["status"] == "final"


def test_nobody_is_named_where_nobody_is_known(clinic: Clinic) -> None:
    found = bundle_of(clinic, clinic.scan())
    assert all("subject" not in one for some in resources(found).values() for one in some)


@pytest.mark.parametrize("name", ["x" * 200, "A\\B", "山田 太郎", "<b>&\"'", "a|b^c~d"])
def test_hostile_ids_stand_as_they_are(clinic: Clinic, name: str) -> None:
    material = gather(clinic.state_dir, clinic.scan())
    (file,) = export(replace(material, dossier=replace(material.dossier, metadata={"patient_id": name})), Format.FHIR)
    found = json.loads(file.data)
    check(found)
    assert found["entry"][0]["resource"]["subject"]["identifier"]["value"] == name


@pytest.mark.parametrize("name", ["a\0b", "half \ud83d", "\x1b[31m"])
def test_an_id_that_fhir_cannot_hold_is_never_changed(clinic: Clinic, name: str) -> None:
    material = gather(clinic.state_dir, clinic.scan())
    (file,) = export(replace(material, dossier=replace(material.dossier, metadata={"patient_id": name})), Format.FHIR)
    found = json.loads(file.data)
    check(found)
    assert "subject" not in found["entry"][0]["resource"]
    assert "was left out" in found["entry"][0]["resource"]["conclusion"]


def test_hostile_words(clinic: Clinic) -> None:
    material = gather(clinic.state_dir, clinic.scan())
    assert material.dossier.answer is not None
    answer = material.dossier.answer.model_copy(update={"warnings": ("<script>alert(1)</script> \ud83d \0",)})
    hostile = replace(material.dossier, answer=answer, metadata={"body_site": "\x1b]0;x\x07"})
    (file,) = export(replace(material, dossier=hostile), Format.FHIR)
    found = json.loads(file.data)
    check(found)
    assert "<script>" not in found["entry"][0]["resource"]["text"]["div"]


def test_a_camera_without_a_zone_gives_the_day_alone(clinic: Clinic) -> None:
    found = bundle_of(clinic, clinic.scan(captured_at=datetime(2026, 11, 19, 23, 59)))  # noqa: DTZ001
    assert found["entry"][0]["resource"]["effectiveDateTime"] == "2026-11-19"


def test_a_repeated_export_gives_the_same_bytes(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="P-1")
    first = export_scan(clinic.state_dir, scan_id, Format.FHIR)
    clinic.now += timedelta(days=3)
    assert export_scan(clinic.state_dir, scan_id, Format.FHIR) == first


def test_the_device_is_the_same_for_every_scan(clinic: Clinic) -> None:
    one = resources(bundle_of(clinic, clinic.scan()))["Device"]
    other = resources(bundle_of(clinic, clinic.scan(b"another picture", "b.jpg")))["Device"]
    assert one == other


def test_against_a_reader_of_r4_itself(clinic: Clinic) -> None:
    """fhirclient knows R4 (4.0.1) and nothing else, and refuses members that it does not know."""
    reader = pytest.importorskip("fhirclient.models.bundle", reason="fhirclient is not installed here")
    scan_id = clinic.scan(patient_id="P-1", body_site="left forearm")
    clinic.verdict(scan_id, "melanoma")
    for found in (bundle_of(clinic, scan_id), bundle_of(clinic, clinic.refused())):
        assert reader.Bundle(found, strict=True).as_json()["type"] == "collection"


def test_the_check_finds_faults(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    for spoil in (
        lambda found: found["entry"][0]["resource"].pop("status"),
        lambda found: found["entry"][0]["resource"].update(note=[{"text": "R5"}]),
        lambda found: found["entry"].pop(1),
        lambda found: found["entry"][1]["resource"].update(valueQuantity={}),
    ):
        found = bundle_of(clinic, scan_id)
        spoil(found)
        with pytest.raises((AssertionError, ValueError)):
            check(found)
