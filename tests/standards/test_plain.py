"""The JSON export."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from agent.answer.scan import Answer
from agent.standards.errors import NotFinished, UnknownExport
from agent.standards.export import Format, export_scan
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


def test_what_is_not_there_or_not_finished(clinic: Clinic) -> None:
    with pytest.raises(UnknownExport, match="dermascan scans"):
        export_scan(clinic.state_dir, "no-such-scan", Format.JSON)
    _, scan_id = clinic.claim(b"half")
    with pytest.raises(NotFinished, match="not been answered yet"):
        export_scan(clinic.state_dir, scan_id, Format.JSON)
