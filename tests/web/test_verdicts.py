"""Verdicts: given, changed, taken back, by two at once, twice by one; each is in the outbox and in the audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from agent.access.tokens import Role
from agent.messages.catalogue import FEEDBACK
from agent.records.reading import open_reading
from tests.web.conftest import MakeClient, problem
from tests.web.serve import Served

MakeAnswer = Callable[[int], str]


def give(client: httpx.Client, scan_id: str, diagnosis: str | None, **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": more.pop("key")} if "key" in more else {}
    body = {"diagnosis": diagnosis, "source": "clinician", **more}
    return client.post(f"/api/v1/scans/{scan_id}/verdicts", json=body, headers=headers)


def test_a_verdict_is_kept_shown_told_and_audited(
    clinician: httpx.Client, make_answer: MakeAnswer, served: Served
) -> None:
    scan_id = make_answer(50)
    response = give(clinician, scan_id, "melanoma", note="CANARY looked twice")
    verdict = response.json()
    assert response.status_code == 201
    primary = clinician.get(f"/api/v1/scans/{scan_id}").json()["primary"]
    assert (verdict["by"], verdict["note"]) == ("the clinician", "CANARY looked twice")
    assert verdict["agrees"] is (primary == "melanoma")
    scan = clinician.get(f"/api/v1/scans/{scan_id}").json()
    assert scan["verdicts"] == [verdict]
    assert scan["verdict"] == verdict
    with open_reading(served.state_dir) as db:
        (event,) = db.execute(
            "SELECT event FROM outbox JOIN outbox_events USING (seq) WHERE type = ? AND scan_id = ?",
            (FEEDBACK.type, scan_id),
        )
        audited = db.execute("SELECT who, role, detail FROM audit WHERE subject = ?", (scan_id,)).fetchall()
    assert json.loads(event[0])["data"]["diagnosis"] == "melanoma"
    assert b"CANARY" not in event[0]
    assert [row[:2] for row in audited] == [("the clinician", "clinician")]
    assert "CANARY" not in audited[0][2]


def test_a_verdict_is_changed_and_taken_back_and_nothing_is_lost(
    clinician: httpx.Client, make_answer: MakeAnswer, served: Served
) -> None:
    scan_id = make_answer(51)
    first = give(clinician, scan_id, "melanoma").json()
    second = give(clinician, scan_id, "dermatofibroma", source="histopathology", by="Dr Path").json()
    third = give(clinician, scan_id, None).json()
    assert (second["supersedes"], second["by"], second["source"]) == (first["verdict_id"], "Dr Path", "histopathology")
    assert (third["diagnosis"], third["supersedes"], third["agrees"]) == (None, second["verdict_id"], None)
    problem(give(clinician, scan_id, None), 409, "conflict")
    fourth = give(clinician, scan_id, "melanoma").json()
    scan = clinician.get(f"/api/v1/scans/{scan_id}").json()
    assert [one["verdict_id"] for one in scan["verdicts"]] == [
        one["verdict_id"] for one in (first, second, third, fourth)
    ]
    with open_reading(served.state_dir) as db:
        rows = db.execute(
            "SELECT event FROM outbox JOIN outbox_events USING (seq) WHERE type = ? AND scan_id = ?",
            (FEEDBACK.type, scan_id),
        )
        told = [json.loads(row[0])["data"] for row in rows]
    assert [one["agreement"] for one in told][2] == "withdrawn"
    assert [one["diagnosis"] for one in told] == ["melanoma", "dermatofibroma", None, "melanoma"]


def test_nothing_to_take_back_is_said_so(clinician: httpx.Client, make_answer: MakeAnswer) -> None:
    problem(give(clinician, make_answer(52), None), 409, "conflict")


def test_a_refused_capture_can_be_judged(clinician: httpx.Client, rejected: str) -> None:
    verdict = give(clinician, rejected, "melanoma", source="histopathology").json()
    assert verdict["agrees"] is None


def test_the_same_key_is_the_same_verdict(clinician: httpx.Client, make_answer: MakeAnswer) -> None:
    scan_id = make_answer(53)
    first = give(clinician, scan_id, "melanoma", key="k1")
    again = give(clinician, scan_id, "melanoma", key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(clinician.get(f"/api/v1/scans/{scan_id}").json()["verdicts"]) == 1
    problem(give(clinician, scan_id, "dermatofibroma", key="k1"), 409, "conflict")


def test_a_key_is_of_its_sender_alone(client_of: MakeClient, make_answer: MakeAnswer) -> None:
    scan_id = make_answer(54)
    one = give(client_of(Role.CLINICIAN), scan_id, "melanoma", key="k2").json()
    other = give(client_of(Role.INTEGRATION), scan_id, "melanoma", key="k2").json()
    assert one["verdict_id"] != other["verdict_id"]


def test_of_two_at_once_the_second_is_shown_what_the_first_said(client_of: MakeClient, make_answer: MakeAnswer) -> None:
    scan_id = make_answer(55)
    clients = [client_of(Role.CLINICIAN), client_of(Role.INTEGRATION)]
    classes = ["melanoma", "dermatofibroma"]
    with ThreadPoolExecutor(2) as both:
        promised = [
            both.submit(give, client, scan_id, name, expected=None)
            for client, name in zip(clients, classes, strict=True)
        ]
        said = [promise.result(20) for promise in promised]
    assert sorted(one.status_code for one in said) == [201, 409]
    kept = next(one for one in said if one.status_code == 201).json()
    late = problem(next(one for one in said if one.status_code == 409), 409, "other-verdict")
    assert late["current"] == kept
    after = give(clients[0], scan_id, "melanoma", expected=kept["verdict_id"])
    assert after.status_code == 201
    assert after.json()["supersedes"] == kept["verdict_id"]


def test_who_expects_nothing_is_not_held_up(clinician: httpx.Client, make_answer: MakeAnswer) -> None:
    scan_id = make_answer(56)
    assert give(clinician, scan_id, "melanoma").status_code == 201
    assert give(clinician, scan_id, "dermatofibroma").status_code == 201
    problem(give(clinician, scan_id, "melanoma", expected="another"), 409, "other-verdict")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"source": "clinician"}, "diagnosis"),
        ({"diagnosis": "benign", "source": "clinician"}, "diagnosis"),
        ({"diagnosis": 1, "source": "clinician"}, "diagnosis"),
        ({"diagnosis": "melanoma"}, "source"),
        ({"diagnosis": "melanoma", "source": "rumour"}, "source"),
        ({"diagnosis": "melanoma", "source": "clinician", "by": ""}, "by"),
        ({"diagnosis": "melanoma", "source": "clinician", "note": "x" * 10_001}, "note"),
        ({"diagnosis": "melanoma", "source": "clinician", "note": "\0"}, "note"),
        ({"diagnosis": "melanoma", "source": "clinician", "patient_id": "CANARY"}, "patient_id"),
    ],
)
def test_a_wrong_verdict_names_the_field_and_not_what_was_in_it(
    clinician: httpx.Client, answered: dict[str, Any], body: dict[str, Any], where: str
) -> None:
    document = problem(clinician.post(f"/api/v1/scans/{answered['scan_id']}/verdicts", json=body), 422, "invalid")
    assert where in document["detail"]
    assert "CANARY" not in json.dumps(document)


@pytest.mark.parametrize("content", [b"", b"{", b"[1,2", b"\xff\xfe{", b'{"a": 1e999999'])
def test_what_is_no_json_is_said_so(clinician: httpx.Client, answered: dict[str, Any], content: bytes) -> None:
    response = clinician.post(
        f"/api/v1/scans/{answered['scan_id']}/verdicts",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    problem(response, 400, "malformed")
