"""POST /analyze: the mission's request gets the design's answer; everything else a problem document, nothing lost."""

from __future__ import annotations

import base64
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.answer.scan import Answer
from agent.records.reading import open_reading
from agent.web import carrier
from tests.web.conftest import asking, picture, problem
from tests.web.serve import Served, serving

CORE = {"diagnosis", "attention_map", "recommendation", "model_version", "latency_ms"}


def test_the_missions_request_gets_the_designs_answer(clinician: httpx.Client, served: Served) -> None:
    body = {"image": base64.b64encode(picture(60)).decode(), "clinic_id": "clinic-1", "patient_id": "P-60"}
    response = clinician.post("/api/v1/analyze", json=body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) >= CORE
    answer = Answer.model_validate(response.json())
    assert (answer.patient_id, answer.clinic_id, answer.dermoscope_id) == ("P-60", "clinic-1", "api")
    upload = served.state_dir / "uploads" / "api" / f"{answer.image_sha256}.png"
    assert upload.read_bytes() == picture(60)
    assert json.loads(upload.with_suffix(".json").read_text()) == {"patient_id": "P-60"}
    with open_reading(served.state_dir) as db:
        rows = db.execute("SELECT state, path, image_sha256 FROM scans WHERE scan_id = ?", (answer.scan_id,)).fetchall()
        events = db.execute("SELECT count(*) FROM outbox WHERE scan_id = ?", (answer.scan_id,)).fetchone()
    assert rows == [("answered", str(upload), answer.image_sha256)]
    assert events == (1,)
    assert clinician.get(f"/api/v1/scans/{answer.scan_id}").json()["answer"] == response.json()


def test_what_is_said_of_the_patient_is_kept_with_the_scan(clinician: httpx.Client) -> None:
    about = {"body_site": "back", "age": 61, "sex": "female", "skin_type": "II", "dermoscope_id": "scope-1"}
    answer = clinician.post("/api/v1/analyze", json=asking(picture(61, suffix=".jpg"), **about)).json()
    assert answer["dermoscope_id"] == "scope-1"
    scan = clinician.get(f"/api/v1/scans/{answer['scan_id']}").json()
    kept = {"patient_id": "P-1", "body_site": "back", "age": "61", "sex": "female", "skin_type": "II"}
    assert scan["metadata"] == kept
    assert not [one for one in answer["warnings"] if "patient file" in one], "the sidecar holds what one may hold"


def test_the_same_picture_again_gives_the_answer_it_had(clinician: httpx.Client, served: Served) -> None:
    first = clinician.post("/api/v1/analyze", json=asking(picture(62)))
    again = clinician.post("/api/v1/analyze", json=asking(picture(62)))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    with open_reading(served.state_dir) as db:
        attempts = db.execute("SELECT attempts FROM scans WHERE scan_id = ?", (first.json()["scan_id"],)).fetchone()
    assert attempts == (1,)


def test_the_same_picture_at_once_is_analysed_once(clinician: httpx.Client, served: Served) -> None:
    body = asking(picture(63))
    with ThreadPoolExecutor(6) as several:
        said = list(several.map(lambda _: clinician.post("/api/v1/analyze", json=body), range(6)))
    assert {one.status_code for one in said} == {200}
    assert len({one.text for one in said}) == 1
    with open_reading(served.state_dir) as db:
        rows = db.execute("SELECT attempts FROM scans WHERE scan_id = ?", (said[0].json()["scan_id"],)).fetchall()
    assert rows == [(1,)]


def test_the_same_picture_for_another_patient_is_refused(clinician: httpx.Client) -> None:
    answer = clinician.post("/api/v1/analyze", json=asking(picture(64))).json()
    document = problem(
        clinician.post("/api/v1/analyze", json=asking(picture(64), patient_id="P-2")), 409, "other-patient"
    )
    assert "P-1" not in json.dumps(document)
    assert clinician.get(f"/api/v1/scans/{answer['scan_id']}").json()["patient_id"] == "P-1"
    with ThreadPoolExecutor(2) as both:
        bodies = [asking(picture(65), patient_id=patient) for patient in ("P-1", "P-2")]
        codes = Counter(
            one.status_code for one in both.map(lambda body: clinician.post("/api/v1/analyze", json=body), bodies)
        )
    assert codes == {200: 1, 409: 1}


def test_a_folders_capture_without_a_name_gets_the_one_that_is_given(clinician: httpx.Client, served: Served) -> None:
    path = served.drop("nameless.png", 66, 320, 240)
    wait_for(clinician, "scope-1", answered=True, patient=None)
    answer = clinician.post("/api/v1/analyze", json=asking(path.read_bytes(), patient_id="P-66")).json()
    assert (answer["patient_id"], answer["dermoscope_id"]) == ("P-66", "scope-1")
    scan = clinician.get(f"/api/v1/scans/{answer['scan_id']}").json()
    assert (scan["patient_id"], scan["answer"]["patient_id"]) == ("P-66", "P-66")
    problem(clinician.post("/api/v1/analyze", json=asking(path.read_bytes())), 409, "other-patient")


def wait_for(client: httpx.Client, dermoscope: str, *, answered: bool, patient: str | None) -> None:
    import time

    end = time.monotonic() + 15
    while time.monotonic() < end:
        for scan in client.get("/api/v1/scans", params={"limit": 5}).json()["scans"]:
            found = (scan["dermoscope_id"], scan["state"] == "answered", scan["patient_id"])
            if found == (dermoscope, answered, patient):
                return
        time.sleep(0.05)
    raise AssertionError("no such scan came")


def test_several_pictures_of_a_visit_are_answered_in_their_order(clinician: httpx.Client) -> None:
    images = [
        {"image": base64.b64encode(picture(67)).decode(), "body_site": "back"},
        {"image": base64.b64encode(picture(68)[:900]).decode()},
        {"image": "broken!"},
        {"image": base64.b64encode(b"PK\x03\x04 a ZIP called PNG").decode()},
        {"image": base64.b64encode(picture(69)).decode()},
    ]
    body = {"images": images, "clinic_id": "clinic-1", "patient_id": "P-67", "body_site": "arm"}
    response = clinician.post("/api/v1/analyze", json=body)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [(one["answer"] or one["problem"]).get("status", 200) for one in results] == [200, 422, 400, 415, 200]
    assert results[1]["problem"]["reason"] == "truncated"
    sites = [
        clinician.get(f"/api/v1/scans/{results[index]['answer']['scan_id']}").json()["body_site"] for index in (0, 4)
    ]
    assert sites == ["back", "arm"]


def test_a_form_does_as_well(clinician: httpx.Client) -> None:
    fields = {"clinic_id": "clinic-1", "patient_id": "P-70", "age": "61", "body_site": "Rücken"}
    one = clinician.post("/api/v1/analyze", data=fields, files={"image": ("lesion.png", picture(70), "image/png")})
    assert one.status_code == 200, one.text
    scan = clinician.get(f"/api/v1/scans/{one.json()['scan_id']}").json()
    assert scan["metadata"] == {"patient_id": "P-70", "age": "61", "body_site": "Rücken"}
    several = [("image", ("../../etc/passwd", picture(71))), ("image", ("b.jpg", picture(72, suffix=".jpg")))]
    many = clinician.post("/api/v1/analyze", data=fields, files=several)
    assert [one["problem"] for one in many.json()["results"]] == [None, None]


@pytest.mark.parametrize(
    ("fields", "files", "status", "where"),
    [
        ({"clinic_id": "clinic-1", "patient_id": "P"}, [], 415, "multipart"),
        ({"clinic_id": "clinic-1"}, [("image", ("a", b"x"))], 422, "patient_id"),
        ({"clinic_id": "clinic-1", "patient_id": "P", "age": "old"}, [("image", ("a", b"x"))], 422, "age"),
        ({"clinic_id": "clinic-1", "patient_id": "P", "colour": "x"}, [("image", ("a", b"x"))], 422, "colour"),
        ({"clinic_id": "clinic-1", "patient_id": "P"}, [("other", ("a", b"x"))], 422, "image"),
        ({"clinic_id": "clinic-1", "patient_id": "P"}, [("image", ("a", b""))], 415, "PNG"),
        ({"clinic_id": "clinic-1", "patient_id": "P"}, [("image", ("a", b"x"))] * 17, 400, "16"),
    ],
)
def test_a_wrong_form_says_what_is_wrong(
    clinician: httpx.Client, fields: dict[str, str], files: list[Any], status: int, where: str
) -> None:
    response = clinician.post("/api/v1/analyze", data=fields, files=files or None)
    assert response.status_code == status, response.text
    assert where in response.json()["detail"]


@pytest.mark.parametrize(
    "content", [b"", b"--x", b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n', b"\0" * 100]
)
def test_a_broken_form_is_said_so(clinician: httpx.Client, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = clinician.post("/api/v1/analyze", content=content, headers=headers)
    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"
    without = clinician.post("/api/v1/analyze", content=content, headers={"Content-Type": "multipart/form-data"})
    problem(without, 400, "malformed")


@pytest.mark.fault("F05")
@pytest.mark.parametrize(
    ("data", "status", "name", "reason"),
    [
        (b"PK\x03\x04" + b"\0" * 500, 415, "unsupported-picture", None),
        (b"GIF89a" + b"\0" * 500, 415, "unsupported-picture", None),
        (b"II*\0" + b"\0" * 500, 415, "unsupported-picture", None),
        (b"\x89PNG\r\n\x1a\n", 422, "refused-picture", "truncated"),
        (b"\xff\xd8\xff" + b"\0" * 100, 422, "refused-picture", None),
        (picture(73)[:3000], 422, "refused-picture", "truncated"),
        (picture(74, (64, 64)), 422, "refused-picture", "too_small"),
    ],
)
def test_what_is_no_good_picture_is_refused_with_its_reason(
    clinician: httpx.Client, data: bytes, status: int, name: str, reason: str | None
) -> None:
    document = problem(clinician.post("/api/v1/analyze", json=asking(data)), status, name)
    if status == 422:
        assert document["reason"] == (reason or document["reason"])
        scan = clinician.get(f"/api/v1/scans/{document['scan_id']}").json()
        assert (scan["state"], scan["sentence"]) == ("rejected", document["detail"])


@pytest.mark.parametrize(
    ("change", "status", "name", "where"),
    [
        ({"image": "not base64!"}, 400, "malformed", "base64"),
        ({"image": "data:image/png;base64,AAAA"}, 400, "malformed", "data:"),
        ({"image": "ümlaut"}, 400, "malformed", "base64"),
        ({"image": ""}, 422, "invalid", "image"),
        ({"image": 7}, 422, "invalid", "image"),
        ({"image": None}, 422, "invalid", "image"),
        ({"images": []}, 422, "invalid", "image"),
        ({"clinic_id": "clinic-2"}, 422, "invalid", "clinic_id"),
        ({"clinic_id": "../x"}, 422, "invalid", "clinic_id"),
        ({"patient_id": ""}, 422, "invalid", "patient_id"),
        ({"patient_id": "a\nb"}, 422, "invalid", "patient_id"),
        ({"patient_id": "x" * 65}, 422, "invalid", "patient_id"),
        ({"dermoscope_id": "../../etc"}, 422, "invalid", "dermoscope_id"),
        ({"age": 200}, 422, "invalid", "age"),
        ({"age": "61"}, 422, "invalid", "age"),
        ({"surprise": 1}, 422, "invalid", "surprise"),
    ],
)
def test_a_wrong_field_is_named(
    clinician: httpx.Client, change: dict[str, Any], status: int, name: str, where: str
) -> None:
    document = problem(clinician.post("/api/v1/analyze", json=asking(b"x") | change), status, name)
    assert where in document["detail"]


def test_line_breaks_in_base64_are_taken(clinician: httpx.Client) -> None:
    body = asking(b"") | {"image": base64.encodebytes(picture(75)).decode()}
    assert clinician.post("/api/v1/analyze", json=body).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "image/png", "application/x-www-form-urlencoded", ""])
def test_other_content_is_not_taken(clinician: httpx.Client, kind: str) -> None:
    headers = {"Content-Type": kind}
    problem(clinician.post("/api/v1/analyze", content=b"x", headers=headers), 415, "unsupported-media")


@pytest.mark.fault("F06")
def test_a_full_disk_is_said_and_nothing_is_taken_in(
    clinician: httpx.Client, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from agent.web.uploads import Uploads

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Uploads, "keep", full)
    response = clinician.post("/api/v1/analyze", json=asking(picture(76)))
    problem(response, 507, "full")
    assert int(response.headers["retry-after"]) > 0
    monkeypatch.undo()
    monkeypatch.setattr(type(served.daemon._space), "full", lambda _: True)
    problem(clinician.post("/api/v1/analyze", json=asking(picture(76))), 507, "full")
    monkeypatch.undo()
    assert clinician.post("/api/v1/analyze", json=asking(picture(76))).status_code == 200


def test_without_an_engine_the_picture_is_kept_and_answered_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.ladder import Ladder

    engine = {"there": False}
    ready = Ladder.ready.fget
    monkeypatch.setattr(Ladder, "ready", property(lambda self: engine["there"] and ready(self)))
    monkeypatch.setattr(Ladder, "wait_ready", lambda self, timeout_s: engine["there"] and self.ready)
    monkeypatch.setattr(carrier, "PATIENCE_S", 20.0)
    with serving(tmp_path) as served:
        headers = {"Authorization": f"Bearer {served.token()}"}
        with httpx.Client(base_url=served.address, headers=headers, timeout=25, trust_env=False) as client:
            assert client.get("/readyz").status_code == 503
            response = client.post("/api/v1/analyze", json=asking(picture(77)))
            problem(response, 503, "no-engine")
            assert int(response.headers["retry-after"]) > 0
            assert client.get("/api/v1/scans").json()["scans"][0]["state"] == "received"
            engine["there"] = True
            again = client.post("/api/v1/analyze", json=asking(picture(77)))
            assert again.status_code == 200, again.text
            assert [one["state"] for one in client.get("/api/v1/scans").json()["scans"]] == ["answered"]


def test_when_too_many_wait_one_is_told_when_to_come_again(
    clinician: httpx.Client, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent import carrying

    monkeypatch.setattr(carrying, "WAITING", 0)
    response = clinician.post("/api/v1/analyze", json=asking(picture(78)))
    problem(response, 503, "busy")
    assert int(response.headers["retry-after"]) >= 1
    monkeypatch.undo()
    assert clinician.post("/api/v1/analyze", json=asking(picture(78))).status_code == 200
