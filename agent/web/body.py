"""Reading a request's body: no more of it than is allowed, and what is wrong with it in one sentence."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from agent.web.problems import INVALID, MALFORMED, MEDIA, TOO_LARGE, Problem

M = TypeVar("M", bound=BaseModel)

SMALL_BYTES: Final = 64 * 1024
"""For what holds no picture."""
MOST_FAULTS: Final = 5


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A route's ``openapi_extra``: its body is this model as JSON (`agent.web.openapi` adds the model itself)."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def read(request: Request, most: int = SMALL_BYTES) -> bytes:
    """The whole body. Raises Problem where it has more than ``most`` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_json(request: Request, model: type[M], most: int = SMALL_BYTES) -> M:
    """The body as a model. Raises Problem: 400 no JSON, 413, 415 said to be something else, 422 not what is asked."""
    insist_on_json(request)
    return parse(await read(request, most), model)


def insist_on_json(request: Request) -> None:
    """The body must be said to be JSON: a page from elsewhere cannot say so unasked (CSRF)."""
    if media_type(request) != "application/json":
        raise Problem(MEDIA, "Send JSON, with Content-Type: application/json.", headers={"Accept": "application/json"})


def media_type(request: Request) -> str:
    """What the body is said to be, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parse(content: bytes, model: type[M]) -> M:
    """JSON as a model; the Problem names the fields at fault, and never what stood in them (F30)."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        if faults[0]["type"] == "json_invalid":
            raise Problem(MALFORMED, "The body is no valid JSON.") from None
        raise invalid(faults) from None


def invalid(faults: Any) -> Problem:
    """What is wrong with a request, by pydantic's list of it."""
    listed = [(".".join(str(part) for part in fault["loc"]), str(fault["msg"])) for fault in faults[:MOST_FAULTS]]
    detail = "; ".join(f"{where}: {what}" if where else what for where, what in listed)
    return Problem(INVALID, f"{detail}.", errors=[{"where": where, "what": what} for where, what in listed])


def too_large(most: int) -> Problem:
    """A body with more than ``most`` bytes; the connection is closed, as the rest of it is not read."""
    size = f"{most // 1_048_576} MB" if most >= 1_048_576 else f"{most // 1024} KB"
    return Problem(TOO_LARGE, f"At most {size} are taken here.", headers={"Connection": "close"})
