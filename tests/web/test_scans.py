"""The list, a scan, and its pictures: what each role sees of them, and every way of asking wrongly."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from agent.answer.scan import Answer
from agent.intake.folder_identity import MARKER
from agent.records.reading import open_reading
from agent.reload import Reloads
from tests.web.conftest import ANSWERED, asking, picture, problem
from tests.web.serve import Served, serving

MakeAnswer = Callable[[int], str]
FOREIGN_IDS = (
    "no-such-scan",
    "0b0f7a0e-9d0a-5d1c-8a55-6f1f2c3d4e5f",
    "..%2f..%2fdermascan",
    "%2e%2e%2f%2e%2e%2fstate%2fdermascan.db",
    "..\\..\\secret",
    "%00",
    "a" * 5000,
    "';DROP TABLE scans;--",
    "ü%20%F0%9F%98%80",
)


def test_a_scan_is_in_the_list_with_what_the_answer_says(clinician: httpx.Client, answered: dict[str, Any]) -> None:
    listed = clinician.get("/api/v1/scans", params={"limit": 200}).json()["scans"]
    (scan,) = [one for one in listed if one["scan_id"] == answered["scan_id"]]
    assert scan["state"] == "answered"
    assert scan["primary"] == answered["diagnosis"]["primary"]
    assert scan["melanoma_risk"] == pytest.approx(answered["diagnosis"]["melanoma_risk"])
    assert scan["threshold"] == answered["operating"]["threshold"]
    assert scan["suspicious"] is answered["operating"]["suspicious"]
    assert scan["warnings"] == len(answered["warnings"])
    assert (scan["patient_id"], scan["body_site"], scan["calibration_state"]) == ("P-1", "left forearm", "none")
    assert (scan["dermoscope_id"], scan["backend"], scan["reason"]) == ("api", "cpu", None)


def test_a_refused_capture_is_in_the_list_with_its_sentence(clinician: httpx.Client, rejected: str) -> None:
    scan = clinician.get(f"/api/v1/scans/{rejected}").json()
    assert (scan["state"], scan["reason"], scan["answer"], scan["primary"]) == ("rejected", "truncated", None, None)
    assert scan["sentence"].startswith("The file ends before the picture does.")
    assert scan["links"] == {
        "overlay": None,
        "image": f"/api/v1/scans/{rejected}/image",
        "view": f"/api/v1/scans/{rejected}/view.jpg",
    }


def test_parts_of_the_list_join_without_gap_or_repeat(clinician: httpx.Client, make_answer: MakeAnswer) -> None:
    for seed in range(10, 15):
        make_answer(seed)
    whole = [scan["seq"] for scan in clinician.get("/api/v1/scans", params={"limit": 200}).json()["scans"]]
    assert whole == sorted(whole, reverse=True)
    found: list[int] = []
    before: int | None = None
    while True:
        part = clinician.get("/api/v1/scans", params={"limit": 2, **({"before": before} if before else {})}).json()
        found += [scan["seq"] for scan in part["scans"]]
        if (before := part["next_before"]) is None:
            break
    assert found == whole


def test_since_leaves_out_what_is_older(clinician: httpx.Client, answered: dict[str, Any]) -> None:
    newest = clinician.get("/api/v1/scans", params={"limit": 1}).json()["scans"][0]
    later = datetime.fromisoformat(newest["received_at"].replace("Z", "+00:00")) + timedelta(milliseconds=1)
    assert clinician.get("/api/v1/scans", params={"since": later.isoformat()}).json()["scans"] == []
    zone = timezone(timedelta(hours=5, minutes=30))
    same = datetime.fromisoformat(newest["received_at"].replace("Z", "+00:00")).astimezone(zone)
    found = clinician.get("/api/v1/scans", params={"since": same.isoformat()}).json()["scans"]
    assert newest["seq"] in [scan["seq"] for scan in found]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 201},
        {"limit": "x"},
        {"before": -1},
        {"before": 1 << 64},
        {"since": "yesterday"},
        {"since": "1910"},
        {"since": "2026-13-01T00:00:00Z"},
        {"since": "0001-01-01T00:00:00+23:59"},
    ],
)
def test_a_wrong_query_says_which_part_is_wrong(clinician: httpx.Client, query: dict[str, Any]) -> None:
    document = problem(clinician.get("/api/v1/scans", params=query), 422, "invalid")
    assert next(iter(query)) in document["detail"]


def test_a_parameter_is_given_once(clinician: httpx.Client) -> None:
    problem(clinician.get("/api/v1/scans?limit=1&limit=2"), 400, "malformed")


def test_the_answer_of_a_scan_is_the_one_that_was_given(clinician: httpx.Client, answered: dict[str, Any]) -> None:
    scan = clinician.get(f"/api/v1/scans/{answered['scan_id']}").json()
    assert scan["answer"] == answered
    Answer.model_validate(scan["answer"])
    assert scan["metadata"] == {"patient_id": "P-1", "body_site": "left forearm"}
    assert (scan["cloud"], scan["verdicts"], scan["ground_truths"]) == ("waiting", [], [])


@pytest.mark.fault("F30")
def test_a_technician_sees_scans_and_nobody_in_them(
    technician: httpx.Client, answered: dict[str, Any], rejected: str
) -> None:
    scan_id = answered["scan_id"]
    listed = technician.get("/api/v1/scans", params={"limit": 200}).text
    detail = technician.get(f"/api/v1/scans/{scan_id}").text
    for text in (listed, detail):
        assert '"P-1"' not in text
        assert "left forearm" not in text
    assert json.loads(detail)["links"] == {"overlay": None, "image": None, "view": None}
    for place in ("image", "view.jpg", "overlay.png"):
        problem(technician.get(f"/api/v1/scans/{scan_id}/{place}"), 403, "not-allowed")


@pytest.mark.parametrize("place", ["", "/image", "/view.jpg", "/overlay.png"])
@pytest.mark.parametrize("scan_id", FOREIGN_IDS)
def test_an_id_of_no_scan_is_none_whatever_it_looks_like(clinician: httpx.Client, scan_id: str, place: str) -> None:
    response = clinician.get(f"/api/v1/scans/{scan_id}{place}")
    document = response.json()
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert scan_id not in document["detail"]


def test_a_verdict_on_no_scan_is_refused(clinician: httpx.Client) -> None:
    body = {"diagnosis": "melanoma", "source": "clinician"}
    problem(clinician.post("/api/v1/scans/nothing-here/verdicts", json=body), 404, "no-such-scan")


def test_the_image_is_what_came_to_the_byte(clinician: httpx.Client, answered: dict[str, Any]) -> None:
    response = clinician.get(f"/api/v1/scans/{answered['scan_id']}/image")
    assert response.content == picture(ANSWERED)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["etag"] == f'"{hashlib.sha256(picture(ANSWERED)).hexdigest()}"'
    again = clinician.get(response.url.path, headers={"If-None-Match": f'W/"x", {response.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


def test_a_view_is_the_picture_in_the_size_that_was_asked_for(
    clinician: httpx.Client, answered: dict[str, Any]
) -> None:
    place = f"/api/v1/scans/{answered['scan_id']}/view.jpg"
    original = cv2.imdecode(np.frombuffer(picture(ANSWERED), np.uint8), cv2.IMREAD_COLOR)
    for side, shape in ((1600, (240, 320)), (160, (120, 160))):
        response = clinician.get(place, params={"side": side})
        view = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
        assert view.shape[:2] == shape
        wanted = cv2.resize(original, shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(view.astype(int) - wanted).mean() < 3.0
    assert clinician.get(place, params={"side": 160}).content == response.content
    problem(clinician.get(place, params={"side": 5000}), 422, "invalid")


def test_the_overlay_is_the_result_file(clinician: httpx.Client, answered: dict[str, Any], served: Served) -> None:
    response = clinician.get(f"/api/v1/scans/{answered['scan_id']}/overlay.png")
    assert response.headers["content-type"] == "image/png"
    assert response.content == (served.state_dir / "results" / f"{answered['scan_id']}.png").read_bytes()


def test_a_refused_capture_has_no_overlay(clinician: httpx.Client, rejected: str) -> None:
    problem(clinician.get(f"/api/v1/scans/{rejected}/overlay.png"), 404, "not-found")
    problem(clinician.get(f"/api/v1/scans/{rejected}/view.jpg"), 409, "changed-picture")


def test_a_picture_that_changed_or_went_is_not_shown_as_the_one_that_was_answered(
    clinician: httpx.Client, served: Served
) -> None:
    answer = clinician.post("/api/v1/analyze", json=asking(picture(20))).json()
    (file,) = (served.state_dir / "uploads" / "api").glob(f"{answer['image_sha256']}.png")
    file.write_bytes(picture(21))
    for place in ("image", "view.jpg"):
        problem(clinician.get(f"/api/v1/scans/{answer['scan_id']}/{place}"), 409, "changed-picture")
    file.unlink()
    for place in ("image", "view.jpg"):
        problem(clinician.get(f"/api/v1/scans/{answer['scan_id']}/{place}"), 410, "picture-gone")


def test_a_picture_replaced_by_a_pipe_or_a_folder_does_not_hang(clinician: httpx.Client, served: Served) -> None:
    answer = clinician.post("/api/v1/analyze", json=asking(picture(22))).json()
    file = Path(served.state_dir / "uploads" / "api" / f"{answer['image_sha256']}.png")
    file.unlink()
    os.mkfifo(file)
    problem(clinician.get(f"/api/v1/scans/{answer['scan_id']}/image"), 409, "changed-picture")
    file.unlink()
    file.mkdir()
    problem(clinician.get(f"/api/v1/scans/{answer['scan_id']}/image"), 409, "changed-picture")
    file.rmdir()


def test_a_capture_of_a_folder_is_seen_like_any_other(clinician: httpx.Client, served: Served) -> None:
    path = served.drop("folder-1.jpg", 30, 320, 240, about={"patient_id": "P-30"})

    def find() -> dict[str, Any] | None:
        scans = clinician.get("/api/v1/scans", params={"limit": 5}).json()["scans"]
        return next((one for one in scans if one["dermoscope_id"] == "scope-1" and one["state"] == "answered"), None)

    end = time.monotonic() + 15
    while (scan := find()) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert scan["patient_id"] == "P-30"
    assert clinician.get(f"/api/v1/scans/{scan['scan_id']}/image").content == path.read_bytes()
    assert clinician.get(f"/api/v1/scans/{scan['scan_id']}/overlay.png").status_code == 200


def test_status_says_how_the_device_does(clinician: httpx.Client, technician: httpx.Client, served: Served) -> None:
    status = technician.get("/api/v1/status").json()
    assert (status["device_id"], status["clinic_id"], status["ready"]) == ("device-1", "clinic-1", True)
    assert [rung["state"] for rung in status["rungs"]] == ["ready"]
    assert status["model"]["demo"] is True
    assert status["dermoscopes"][0]["folder_ok"] is True
    assert status["cloud"] == {
        "configured": False,
        "phase": None,
        "sentence": "No cloud is configured: events wait on this device.",
    }
    assert status["counts"]["answered"] >= 1
    assert clinician.get("/api/v1/status").status_code == 200


def test_a_scan_is_exported_and_that_is_audited(
    clinician: httpx.Client, answered: dict[str, Any], served: Served
) -> None:
    place = f"/api/v1/scans/{answered['scan_id']}/export"
    fhir = clinician.get(place, params={"format": "fhir"})
    assert (fhir.status_code, fhir.json()["resourceType"]) == (200, "Bundle")
    assert "attachment" in fhir.headers["content-disposition"]
    plain = clinician.get(place, params={"format": "json"})
    assert (plain.status_code, plain.headers["content-type"]) == (200, "application/json")
    with open_reading(served.state_dir) as db:
        rows = db.execute("SELECT who, detail FROM audit WHERE action = 'export'").fetchall()
    assert ("the clinician", '{"format":"fhir","to":"api"}') in rows


def test_dicom_comes_in_an_archive(clinician: httpx.Client, answered: dict[str, Any]) -> None:
    pytest.importorskip("highdicom")
    response = clinician.get(f"/api/v1/scans/{answered['scan_id']}/export", params={"format": "dicom"})
    assert response.status_code == 200, response.text
    names = zipfile.ZipFile(io.BytesIO(response.content)).namelist()
    assert len(names) == 2
    assert all(name.endswith(".dcm") for name in names)


def test_an_export_that_cannot_be_is_said_so(
    clinician: httpx.Client, technician: httpx.Client, answered: dict[str, Any], rejected: str
) -> None:
    problem(clinician.get("/api/v1/scans/nothing/export", params={"format": "json"}), 404, "no-such-scan")
    place = f"/api/v1/scans/{answered['scan_id']}/export"
    problem(clinician.get(place, params={"format": "pdf"}), 422, "invalid")
    problem(clinician.get(place), 422, "invalid")
    problem(clinician.get(f"/api/v1/scans/{rejected}/export", params={"format": "dicom"}), 404, "not-found")
    problem(technician.get(place, params={"format": "json"}), 403, "not-allowed")


def test_a_dermoscope_that_comes_with_new_settings_is_in_the_status(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        headers = {"Authorization": f"Bearer {served.token()}"}
        with httpx.Client(base_url=served.address, headers=headers, trust_env=False) as client:
            before = [scope["id"] for scope in client.get("/api/v1/status").json()["dermoscopes"]]
            (tmp_path / "scope-2").mkdir()
            settings = tmp_path / "agent.toml"
            settings.write_text(settings.read_text() + f'\n[[dermoscope]]\nid = "new"\nfolder = "{tmp_path}/scope-2"\n')
            reloads = Reloads(settings, served.daemon.config, served.daemon.parts)
            assert reloads.reload() is not None
            after = client.get("/api/v1/status").json()["dermoscopes"]
            assert [scope["id"] for scope in after] == [*before, "new"]
            assert [scope["folder_ok"] for scope in after] == [True, True], "no capture came from them yet"
            (tmp_path / "scope-2").rmdir()
            after = client.get("/api/v1/status").json()["dermoscopes"]
            assert [scope["folder_ok"] for scope in after] == [True, False]


@pytest.mark.fault("F03")
def test_an_empty_mount_point_in_the_place_of_a_dermoscopes_folder_is_told(tmp_path: Path) -> None:
    def folder_ok(served: Served) -> bool:
        headers = {"Authorization": f"Bearer {served.token()}"}
        with httpx.Client(base_url=served.address, headers=headers, trust_env=False) as client:
            return bool(client.get("/api/v1/status").json()["dermoscopes"][0]["folder_ok"])

    with serving(tmp_path) as served:
        assert served.daemon.wait_ready(20)
        served.drop("a.jpg", 1, 320, 240)
        end = time.monotonic() + 20
        while not (served.folder / MARKER).exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert folder_ok(served)
    served.folder.rename(tmp_path / "away")
    with serving(tmp_path) as served:
        assert not folder_ok(served), "captures came from this dermoscope, and their folder was marked"
