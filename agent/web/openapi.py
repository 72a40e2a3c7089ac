"""The OpenAPI document: made from the routes, with what FastAPI cannot know added."""

from __future__ import annotations

import json
import threading
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agent.answer.scan import Answer
from agent.web.problems import EVERYWHERE, KINDS, ProblemDocument, described

DESCRIPTION: Final = """\
The local interface of a DermaScan Edge device: pictures in, explained answers out, beside the folders that it watches.

An adjunct for trained clinicians; not a diagnosis. Sign in with a token (`dermascan token create`), sent as
`Authorization: Bearer TOKEN` or exchanged for a session's cookie. Every refusal is a problem document (RFC 9457); its
`type` is `urn:dermascan:problem:` and one of these names. Where there are many of them, they are slow to come (2 s at
most):

"""


def describe(app: FastAPI) -> None:
    """Let the app describe itself; the document is made when it is first asked for, and kept."""
    lock = threading.Lock()

    router = APIRouter(tags=["health"])

    @router.get("/api/v1/openapi.json", responses=described(*EVERYWHERE), response_class=Response)
    async def openapi_document() -> Response:
        """This document."""
        content = await run_in_threadpool(lambda: json.dumps(app.openapi()))
        return Response(content, media_type="application/json", headers={"Cache-Control": "no-cache"})

    app.include_router(router)

    def openapi() -> dict[str, Any]:
        with lock:
            if app.openapi_schema is None:
                app.openapi_schema = _make(app)
            return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _make(app: FastAPI) -> dict[str, Any]:
    names = "\n".join(f"- `{kind.name}` ({kind.status}): {kind.title}" for kind in KINDS)
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION + names,
        routes=app.routes,
        openapi_version="3.1.0",
    )
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas.update(_schemas((Answer, ProblemDocument, *_bodies())))
    return document


def _bodies() -> tuple[type[BaseModel], ...]:
    from agent.web.analyze import AnalyzeBody
    from agent.web.session import SignIn
    from agent.web.verdicts import GivenVerdict

    return (SignIn, GivenVerdict, AnalyzeBody)


def _schemas(models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = found["$defs"]
    if ProblemDocument.__name__ in schemas:
        schemas["Problem"] = schemas.pop(ProblemDocument.__name__)
    return schemas
