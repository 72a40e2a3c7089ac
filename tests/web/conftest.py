"""One running agent for the tests that only ask, and clients for each role."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import httpx
import pytest

from agent.access.tokens import Role
from agent.demo.render import render_lesion
from agent.web import opening
from tests.web.serve import Served, serving

MakeClient = Callable[..., httpx.Client]
ANSWERED = 9001
"""The seed of the picture of `answered`; no test asks about it before."""


def picture(seed: int, size: tuple[int, int] = (320, 240), suffix: str = ".png") -> bytes:
    """A synthetic picture's bytes."""
    bgr = cv2.cvtColor(render_lesion(seed, *size), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(suffix, bgr)[1])


def asking(data: bytes, **more: Any) -> dict[str, Any]:
    """A body for POST /analyze."""
    return {"image": base64.b64encode(data).decode(), "clinic_id": "clinic-1", "patient_id": "P-1", **more}


def problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """The response is this problem document, and nothing but one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert {key: document[key] for key in ("type", "status")} == {
        "type": f"urn:dermascan:problem:{name}",
        "status": status,
    }
    assert document["title"]
    assert document["detail"].endswith(".")
    return document


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "REFUSALS_AT_ONCE", 10_000)  # the tests try more than anyone may
        with serving(tmp_path_factory.mktemp("web")) as running:
            assert running.daemon.wait_ready(20)
            yield running


@pytest.fixture(scope="session")
def client_of(served: Served) -> Iterator[MakeClient]:
    """A client with a token of a role; without a role, one that nobody knows."""
    made: list[httpx.Client] = []
    tokens: dict[Role, str] = {}

    def make(role: Role | None = Role.CLINICIAN, **more: Any) -> httpx.Client:
        headers = {}
        if role is not None:
            tokens.setdefault(role, served.token(role, f"the {role.value}"))
            headers["Authorization"] = f"Bearer {tokens[role]}"
        made.append(httpx.Client(base_url=served.address, headers=headers, timeout=20, trust_env=False, **more))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def clinician(client_of: MakeClient) -> httpx.Client:
    return client_of(Role.CLINICIAN)


@pytest.fixture(scope="session")
def technician(client_of: MakeClient) -> httpx.Client:
    return client_of(Role.TECHNICIAN)


@pytest.fixture(scope="session")
def stranger(client_of: MakeClient) -> httpx.Client:
    return client_of(None)


@pytest.fixture(scope="session")
def answered(clinician: httpx.Client) -> dict[str, Any]:
    """An answer that lies there for everyone to look at."""
    response = clinician.post("/api/v1/analyze", json=asking(picture(ANSWERED), body_site="left forearm"))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture(scope="session")
def rejected(clinician: httpx.Client) -> str:
    """The id of a scan that was refused."""
    response = clinician.post("/api/v1/analyze", json=asking(picture(2)[:2000]))
    assert response.status_code == 422, response.text
    return str(response.json()["scan_id"])


@pytest.fixture
def make_answer(clinician: httpx.Client) -> Callable[[int], str]:
    """Have a picture answered; its scan's id."""

    def make(seed: int) -> str:
        response = clinician.post("/api/v1/analyze", json=asking(picture(seed)))
        assert response.status_code == 200, response.text
        return str(response.json()["scan_id"])

    return make
