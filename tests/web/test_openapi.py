"""The OpenAPI document is what the code does: every route is in it, and schemathesis finds no answer that is not."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis.errors import Unsatisfiable

from agent.web.app import ROUTERS
from agent.web.problems import EVERYWHERE, KINDS, MALFORMED
from tests.web.conftest import MakeClient, asking, picture
from tests.web.serve import Served

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
]
NOT_FUZZED = {
    ("GET", "/api/v1/events"),  # has no end
    ("DELETE", "/api/v1/session"),  # takes nothing
}


@pytest.fixture(scope="module")
def document(stranger: httpx.Client) -> dict[str, Any]:
    response = stranger.get("/api/v1/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def test_every_route_is_described_and_nothing_else(document: dict[str, Any]) -> None:
    routes = {
        (route.path.replace(":path}", "}"), method.lower())  # type: ignore[attr-defined]
        for module in ROUTERS
        for route in module.router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert described == routes | {("/api/v1/openapi.json", "get")}
    assert ("/api/v1/analyze", "post") in described


def test_every_route_says_how_it_refuses(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            codes = set(operation["responses"])
            assert {str(kind.status) for kind in EVERYWHERE} <= codes, f"{method} {path}"
            for code, response in operation["responses"].items():
                if code.startswith(("4", "5")) and (path, code) != ("/readyz", "503"):
                    assert list(response["content"]) == ["application/problem+json"], f"{method} {path} {code}"
            if "security" in operation:
                assert {"401", "403"} <= codes
            elif path.startswith("/api/v1/scans"):
                raise AssertionError(f"{method} {path} is open to everyone")


def test_every_kind_of_problem_is_named_once(document: dict[str, Any]) -> None:
    names = [kind.name for kind in KINDS]
    assert len(names) == len(set(names)) > 20
    assert all(f"`{name}`" in document["info"]["description"] for name in names)
    assert MALFORMED in KINDS


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])
    assert {"Problem", "Answer", "AnalyzeBody", "ScanSummary"} <= references


def test_answers_are_what_the_document_says(
    document: dict[str, Any], clinician: httpx.Client, answered: dict[str, Any], rejected: str
) -> None:
    for path, template in (
        ("/api/v1/session", "/api/v1/session"),
        ("/api/v1/scans?limit=200", "/api/v1/scans"),
        (f"/api/v1/scans/{answered['scan_id']}", "/api/v1/scans/{scan_id}"),
        (f"/api/v1/scans/{rejected}", "/api/v1/scans/{scan_id}"),
        ("/api/v1/status", "/api/v1/status"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
    ):
        content = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]
        jsonschema.validate(clinician.get(path).json(), {**content["schema"], "components": document["components"]})


def fuzz(served: Served, token: str, examples: int, seconds: float) -> int:
    """Ask every operation, rightly and wrongly by its own description; returns how often."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"{served.address}/api/v1/openapi.json")
    headers = {"Authorization": f"Bearer {token}"}
    chosen = schemathesis.checks.CHECKS.get_by_names(CHECKS)
    ends = time.monotonic() + seconds
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if (operation.method.upper(), operation.path) in NOT_FUZZED:
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: Any) -> None:
                nonlocal tried
                if time.monotonic() < ends:
                    tried += 1
                    case.validate_response(case.call(headers=headers, timeout=10), checks=chosen)

            if time.monotonic() > ends:
                break  # making up examples takes time, too
            with suppress(Unsatisfiable):  # there is no wrong way of asking for what takes nothing
                ask()
    return tried


@pytest.mark.timeout(90)  # the bound is on asking; on a busy machine making examples up takes as long again
@pytest.mark.filterwarnings("default")
def test_schemathesis_finds_no_answer_that_is_not_described(served: Served, client_of: MakeClient) -> None:
    client = client_of()
    assert client.post("/api/v1/analyze", json=asking(picture(1))).status_code == 200
    assert fuzz(served, client.headers["authorization"].partition(" ")[2], 8, 12.0) > 50


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_schemathesis_finds_none_in_a_long_time(served: Served, client_of: MakeClient) -> None:
    assert fuzz(served, client_of().headers["authorization"].partition(" ")[2], 500, 1200.0) > 1000
