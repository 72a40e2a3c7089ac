"""Canaries: what names a patient is in the answers that may name one, and nowhere else (F30)."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import httpx
import pytest

from agent.access.tokens import Role
from tests.web.conftest import asking, picture
from tests.web.serve import serving

CANARY = "CANARY-4711"


@pytest.mark.fault("F30")
def test_a_patient_is_in_no_log_url_metric_event_audit_or_problem(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    problems: list[str] = []
    with serving(tmp_path) as served:
        headers = {"Authorization": f"Bearer {served.token(name='Dr Test')}"}
        with httpx.Client(base_url=served.address, headers=headers, timeout=20, trust_env=False) as client:

            def ask(method: str, path: str, **more: object) -> httpx.Response:
                response = client.request(method, path, **more)  # type: ignore[arg-type]
                assert CANARY not in str(response.url)
                assert CANARY not in str(response.headers)
                if response.status_code >= 400:
                    problems.append(response.text)
                return response

            about = {"patient_id": CANARY, "body_site": f"{CANARY}-site"}
            answer = ask("POST", "/api/v1/analyze", json=asking(picture(1), **about)).json()
            assert answer["patient_id"] == CANARY
            place = f"/api/v1/scans/{answer['scan_id']}"
            note = {"diagnosis": "melanoma", "source": "clinician", "note": f"{CANARY}-note"}
            assert ask("POST", f"{place}/verdicts", json=note).status_code == 201
            for path in ("", "/image", "/view.jpg", "/overlay.png"):
                assert ask("GET", place + path).status_code == 200
            ask("POST", "/api/v1/analyze", json=asking(picture(1), patient_id=f"{CANARY}-other"))
            ask("POST", "/api/v1/analyze", json=asking(picture(2)[:2000], **about))
            ask("POST", "/api/v1/analyze", json=asking(picture(3), patient_id=f"{CANARY}\n"))
            ask("POST", "/api/v1/analyze", json=asking(picture(3), clinic_id=CANARY))
            ask("POST", "/api/v1/analyze", json=asking(b"x", **about) | {"image": f"{CANARY}!"})
            ask("POST", "/api/v1/analyze", json={CANARY: 1})
            form = {"clinic_id": "clinic-1", "patient_id": CANARY, "age": CANARY}
            ask("POST", "/api/v1/analyze", data=form, files={"image": (CANARY, picture(4))})
            ask("POST", f"{place}/verdicts", json={**note, "source": CANARY})
            late = ask("POST", f"{place}/verdicts", json={**note, "expected": CANARY}).json()
            assert late.pop("current")["note"] == f"{CANARY}-note", "the verdict itself, for who may read it"
            problems[-1] = json.dumps(late)
            metrics = ask("GET", "/metrics").text
            technician = {"Authorization": f"Bearer {served.token(Role.TECHNICIAN)}"}
            seen = [client.get(path, headers=technician).text for path in ("/api/v1/scans", place, "/api/v1/status")]
            status = ask("GET", "/api/v1/status").text
        served.daemon.stop()
    assert len(problems) >= 8
    # A key that the sender made up is named to the sender; nothing that stood in a field is.
    made_up = [one for one in problems if CANARY in [fault["where"] for fault in json.loads(one).get("errors", ())]]
    assert len(made_up) == 1
    for text in (*(one for one in problems if one not in made_up), metrics, status, *seen, caplog.text):
        assert CANARY not in text
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tmp_path / "state" / "dermascan.db")) as db:
        for table, column in (("outbox_events", "event"), ("audit", "detail"), ("audit", "who"), ("scans", "path")):
            for (content,) in db.execute(f"SELECT {column} FROM {table}"):  # noqa: S608
                assert CANARY.encode() not in (content if isinstance(content, bytes) else str(content).encode())
