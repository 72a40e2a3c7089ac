"""The JSON export."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from agent.answer.scan import Answer
from agent.records.errors import StoreError
from agent.standards.errors import NotFinished, NothingToExport, UnknownExport
from agent.standards.export import Format, export_scan
from agent.standards.looking import finished
from tests.standards.conftest import Clinic


def content(clinic: Clinic, scan_id: str) -> dict:
    (file,) = export_scan(clinic.state_dir, scan_id, Format.JSON)
    assert file.name.startswith(scan_id)
    return json.loads(file.data)


def test_the_answer_as_the_design_has_it(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="山田-7", body_site="back", age="55")
    found = content(clinic, scan_id)
    assert Answer.model_validate(found["answer"]).scan_id == scan_id
    assert found["patient"] == {"patient_id": "山田-7", "body_site": "back", "age": "55"}
    assert (found["state"], found["version"], found["verdict"]) == ("answered", 1, None)


def test_verdicts_without_who_and_why(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    clinic.now += timedelta(minutes=1)
    first = clinic.verdict(scan_id, "melanoma", by="CANARY", note="CANARY")
    second = clinic.verdict(scan_id, "dermatofibroma", "follow_up")
    found = content(clinic, scan_id)
    assert [one["verdict_id"] for one in found["verdicts"]] == [first, second]
    assert found["verdicts"][1]["supersedes"] == first
    assert found["verdict"] == second
    assert found["version"] == 3
    assert "CANARY" not in json.dumps(found)


def test_a_refused_capture(clinic: Clinic) -> None:
    found = content(clinic, clinic.refused())
    assert found["answer"] is None
    assert found["reason"] == "not_a_picture"
    assert found["clinic_id"] == "clinic-1"


def test_an_old_scan_without_its_pictures(clinic: Clinic) -> None:
    """In time, pictures are given up and the answer is kept."""
    scan_id = clinic.scan(patient_id="P-1", attention_map="")
    (clinic.state_dir / "results" / f"{scan_id}.png").unlink()
    assert content(clinic, scan_id)["answer"]["attention_map"] == ""
    (file,) = export_scan(clinic.state_dir, scan_id, Format.FHIR)
    kinds = [one["resource"]["resourceType"] for one in json.loads(file.data)["entry"]]
    assert "Media" not in kinds
    assert b"derivedFrom" not in file.data
    with pytest.raises(NothingToExport, match="pictures are no longer kept"):
        export_scan(clinic.state_dir, scan_id, Format.DICOM)


def direct(clinic: Clinic, statement: str, *values: object) -> None:
    """Change the database as the agent's other parts do, while the agent is stopped."""
    clinic.store.close()
    with closing(sqlite3.connect(clinic.state_dir / "dermascan.db")) as db:
        db.execute(statement, values)
        db.commit()


def test_an_erased_patient(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="P-1")
    direct(clinic, "UPDATE scans SET kept = 'erased', metadata = '{}' WHERE scan_id = ?", scan_id)
    for wanted in Format:
        with pytest.raises(NothingToExport, match="erased"):
            export_scan(clinic.state_dir, scan_id, wanted)
    assert finished(clinic.state_dir, None) == []


def test_sealed_fields_without_the_key_are_nobodys_export(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="P-1")
    direct(clinic, "UPDATE scans SET sealed_by = '0123456789abcdef' WHERE scan_id = ?", scan_id)
    with pytest.raises(StoreError, match="as the agent's user"):
        export_scan(clinic.state_dir, scan_id, Format.JSON)


def test_what_is_not_there_or_not_finished(clinic: Clinic) -> None:
    with pytest.raises(UnknownExport, match="dermascan scans"):
        export_scan(clinic.state_dir, "no-such-scan", Format.JSON)
    _, scan_id = clinic.claim(b"half")
    with pytest.raises(NotFinished, match="not been answered yet"):
        export_scan(clinic.state_dir, scan_id, Format.JSON)
