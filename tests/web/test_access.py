"""Who gets in: tokens, sessions, roles, our own page alone (CSRF), our own names alone (DNS rebinding)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.access.tokens import FOLDER, Role, Tokens
from agent.records.reading import open_reading
from agent.web import opening
from tests.web.conftest import MakeClient, asking, picture, problem
from tests.web.serve import Served, serving

PAGE = {"X-DermaScan-Page": "1"}
CLOSED = (
    ("GET", "/api/v1/session"),
    ("GET", "/api/v1/scans"),
    ("GET", "/api/v1/scans/x"),
    ("GET", "/api/v1/scans/x/image"),
    ("GET", "/api/v1/scans/x/view.jpg"),
    ("GET", "/api/v1/scans/x/overlay.png"),
    ("POST", "/api/v1/scans/x/verdicts"),
    ("POST", "/api/v1/analyze"),
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/events"),
)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_nobody_gets_in_without_a_token(stranger: httpx.Client, method: str, path: str) -> None:
    response = stranger.request(method, path)
    problem(response, 401, "not-signed-in")
    assert response.headers["www-authenticate"] == "Bearer"


def test_unknown_revoked_and_expired_tokens_are_told_the_same(served: Served, stranger: httpx.Client) -> None:
    tokens = Tokens(served.state_dir / FOLDER)
    revoked = tokens.create("gone", Role.CLINICIAN)
    assert stranger.get("/api/v1/scans", headers=bearer(revoked.secret)).status_code == 200
    tokens.revoke(revoked.token_id, "a test")
    from datetime import datetime, timedelta, timezone

    long_ago = datetime.now(timezone.utc) - timedelta(days=2)
    expired = tokens.create("late", Role.CLINICIAN, 1, now=max(long_ago, datetime(2026, 11, 2, tzinfo=timezone.utc)))
    said = []
    for secret in (revoked.secret, expired.secret, "dse_" + "A" * 43, "x", "ü"):
        header = bearer(secret)["Authorization"].encode("latin-1")
        said.append(problem(stranger.get("/api/v1/scans", headers={"Authorization": header}), 401, "not-signed-in"))
    assert all(one == said[0] for one in said)


@pytest.mark.parametrize("header", ["", "Bearer", "Basic abc", "Bearer a b", "Bearer " + "x" * 8000])
def test_a_broken_header_lets_nobody_in(stranger: httpx.Client, header: str) -> None:
    problem(stranger.get("/api/v1/scans", headers={"Authorization": header}), 401, "not-signed-in")


def test_roles_may_what_they_may(client_of: MakeClient, answered: dict[str, Any]) -> None:
    verdict = {"diagnosis": "melanoma", "source": "clinician"}
    place = f"/api/v1/scans/{answered['scan_id']}"
    technician = client_of(Role.TECHNICIAN)
    problem(technician.post(f"{place}/verdicts", json=verdict), 403, "not-allowed")
    problem(technician.post("/api/v1/analyze", json=asking(picture(1))), 403, "not-allowed")
    assert technician.get("/api/v1/status").status_code == 200
    integration = client_of(Role.INTEGRATION)
    assert integration.get(f"{place}/image").status_code == 200
    assert integration.post("/api/v1/analyze", json=asking(picture(1))).status_code == 200


def sign_in(client: httpx.Client, served: Served, headers: dict[str, str] | None = None) -> httpx.Response:
    return client.post("/api/v1/session", json={"token": served.token()}, headers=headers or PAGE)


def test_a_session_stands_for_its_token_until_it_is_ended(served: Served, client_of: MakeClient) -> None:
    browser = client_of(None)
    response = sign_in(browser, served)
    assert (response.status_code, response.content) == (204, b"")
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "dse_" not in cookie
    session = browser.get("/api/v1/session").json()
    assert (session["name"], session["role"]) == ("Dr Test", "clinician")
    assert session["expires_at"] is not None
    assert browser.get("/api/v1/scans").status_code == 200
    stolen = browser.cookies["dermascan_session"]
    assert browser.delete("/api/v1/session", headers=PAGE).status_code == 204
    thief = client_of(None)
    problem(thief.get("/api/v1/scans", headers={"Cookie": f"dermascan_session={stolen}"}), 401, "not-signed-in")


def test_a_session_ends_with_its_token(served: Served, client_of: MakeClient) -> None:
    tokens = Tokens(served.state_dir / FOLDER)
    token = tokens.create("short", Role.CLINICIAN)
    browser = client_of(None)
    assert browser.post("/api/v1/session", json={"token": token.secret}, headers=PAGE).status_code == 204
    assert browser.get("/api/v1/scans").status_code == 200
    tokens.revoke(token.token_id, "a test")
    problem(browser.get("/api/v1/scans"), 401, "not-signed-in")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-DermaScan-Page": "0"},
        {**PAGE, "Origin": "http://evil.example"},
        {**PAGE, "Origin": "null"},
        {**PAGE, "Origin": "https://127.0.0.1"},
        {**PAGE, "Sec-Fetch-Site": "cross-site"},
        {**PAGE, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_foreign_page_changes_nothing_with_our_cookie(
    served: Served, client_of: MakeClient, answered: dict[str, Any], headers: dict[str, str]
) -> None:
    browser = client_of(None)
    assert sign_in(browser, served).status_code == 204
    body = {"diagnosis": "melanoma", "source": "clinician"}
    place = f"/api/v1/scans/{answered['scan_id']}/verdicts"
    problem(browser.post(place, json=body, headers=headers), 403, "foreign-page")
    problem(browser.post("/api/v1/analyze", json=asking(picture(1)), headers=headers), 403, "foreign-page")
    problem(browser.delete("/api/v1/session", headers=headers), 403, "foreign-page")
    if headers:
        problem(sign_in(client_of(None), served, headers), 403, "foreign-page")


def test_our_own_page_may(served: Served, client_of: MakeClient, make_answer: Any) -> None:
    browser = client_of(None)
    own = {**PAGE, "Origin": served.address, "Sec-Fetch-Site": "same-origin"}
    assert sign_in(browser, served, own).status_code == 204
    body = {"diagnosis": "melanoma", "source": "clinician"}
    assert browser.post(f"/api/v1/scans/{make_answer(40)}/verdicts", json=body, headers=own).status_code == 201


def test_a_form_of_a_foreign_page_is_no_sign_in(served: Served, stranger: httpx.Client) -> None:
    body = f'{{"token": "{served.token()}"}}'
    problem(
        stranger.post("/api/v1/session", content=body, headers={"Content-Type": "text/plain"}), 415, "unsupported-media"
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8440", "127.0.0.1.evil.example", "localhost.evil", "1.2.3.4", ""]
)
def test_names_that_are_not_ours_are_refused(clinician: httpx.Client, host: str) -> None:
    for path in ("/healthz", "/api/v1/scans", "/"):
        problem(clinician.get(path, headers={"Host": host}), 421, "foreign-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8440", "127.0.0.1:99"])
def test_our_own_names_are_known(stranger: httpx.Client, host: str) -> None:
    assert stranger.get("/healthz", headers={"Host": host}).json() == {"alive": True}


def test_refused_tries_slow_down_and_are_a_few_rows_of_the_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "REFUSALS_AT_ONCE", 20)
    with serving(tmp_path) as served, httpx.Client(base_url=served.address, trust_env=False) as client:
        for number in range(40):
            response = client.get("/api/v1/scans", headers=bearer(f"dse_{number}"))
            if response.status_code == 429:
                break
        assert problem(response, 429, "too-often")
        assert int(response.headers["retry-after"]) >= 1
        assert client.get("/api/v1/scans", headers=bearer(served.token())).status_code == 200, "a good token passes"
        assert sign_in(client, served).status_code == 204
    with open_reading(served.state_dir) as db:
        rows = db.execute("SELECT action, who, role, detail FROM audit ORDER BY seq").fetchall()
    assert [row[0] for row in rows if row[0].startswith("sign-in")].count("sign-in") == 1
    refused = [row for row in rows if row[0] == "sign-in-refused"]
    assert 1 <= len(refused) <= 2
    assert ("sign-in", "Dr Test", "clinician") in [row[:3] for row in rows]
    assert "dse_" not in "".join(row[3] for row in rows)


def test_too_many_requests_of_one_token_are_told_to_wait_and_others_are_not(tmp_path: Path) -> None:
    with serving(tmp_path, more="requests_per_s = 0.5") as served:
        busy, other = served.token(), served.token()
        with httpx.Client(base_url=served.address, trust_env=False) as client:
            codes = [client.get("/api/v1/status", headers=bearer(busy)).status_code for _ in range(3)]
            assert codes == [200, 429, 429]
            response = client.get("/api/v1/status", headers=bearer(busy))
            problem(response, 429, "too-often")
            assert 1 <= int(response.headers["retry-after"]) <= 2
            assert client.get("/api/v1/status", headers=bearer(other)).status_code == 200


def test_a_list_of_tokens_that_others_can_read_lets_nobody_in(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        token = served.token()
        (served.state_dir / FOLDER / "tokens.json").chmod(0o644)
        with httpx.Client(base_url=served.address, trust_env=False) as client:
            response = client.get("/api/v1/scans", headers=bearer(token))
            problem(response, 503, "access-unavailable")
            assert int(response.headers["retry-after"]) > 0
            assert client.get("/healthz").status_code == 200
