"""What is said where a request cannot be done: one problem document for each kind of refusal (RFC 9457)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
_URN: Final = "urn:dermascan:problem:"


@dataclass(frozen=True)
class Kind:
    """A kind of refusal: its name is its ``type``, and its title never changes."""

    name: str
    status: int
    title: str


MALFORMED: Final = Kind("malformed", 400, "The request cannot be read")
NOT_SIGNED_IN: Final = Kind("not-signed-in", 401, "Sign in first")
NOT_ALLOWED: Final = Kind("not-allowed", 403, "This is not for your role")
FOREIGN_PAGE: Final = Kind("foreign-page", 403, "The request did not come from this device's own page")
FOREIGN_HOST: Final = Kind("foreign-host", 421, "This device is not called by that name")
NOT_FOUND: Final = Kind("not-found", 404, "There is nothing here")
NO_SUCH_SCAN: Final = Kind("no-such-scan", 404, "There is no such scan")
NOT_YET: Final = Kind("not-yet", 404, "It is not there yet")
METHOD: Final = Kind("method-not-allowed", 405, "This cannot be done here")
TOO_SLOW: Final = Kind("too-slow", 408, "The request came too slowly")
CONFLICT: Final = Kind("conflict", 409, "It is no longer as it was")
OTHER_VERDICT: Final = Kind("other-verdict", 409, "Another verdict was given meanwhile")
OTHER_PATIENT: Final = Kind("other-patient", 409, "This picture is another patient's")
NOT_ANSWERED: Final = Kind("not-answered", 409, "The scan has not been answered yet")
CHANGED_PICTURE: Final = Kind("changed-picture", 409, "The picture is no longer the one that was answered")
PICTURE_GONE: Final = Kind("picture-gone", 410, "The picture is gone")
TOO_LARGE: Final = Kind("too-large", 413, "The request is too large")
NOT_A_PICTURE: Final = Kind("unsupported-picture", 415, "Neither PNG nor JPEG")
MEDIA: Final = Kind("unsupported-media", 415, "This kind of content is not taken")
INVALID: Final = Kind("invalid", 422, "The request asks for what cannot be")
REFUSED_PICTURE: Final = Kind("refused-picture", 422, "The picture was refused")
TOO_OFTEN: Final = Kind("too-often", 429, "Too many requests")
HEADERS_TOO_LARGE: Final = Kind("headers-too-large", 431, "The request's header is too large")
INTERNAL: Final = Kind("internal", 500, "The device made a mistake")
BUSY: Final = Kind("busy", 503, "The device is busy")
NO_ENGINE: Final = Kind("no-engine", 503, "No engine has answered in time")
NO_ACCESS: Final = Kind("access-unavailable", 503, "Nobody can be let in just now")
STOPPING: Final = Kind("stopping", 503, "The device is stopping")
FULL: Final = Kind("full", 507, "The disk is full")

KINDS: Final = tuple(kind for kind in globals().copy().values() if isinstance(kind, Kind))


class Problem(Exception):
    """A request ends here. ``detail`` is for people: what is wrong and what to do; never of a patient (F30)."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        retry_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """``retry_s``: when it makes sense to ask again; ``more``: members beside the standard ones."""
        super().__init__(detail)
        self.kind, self.detail, self.more = kind, detail, more
        self.headers = dict(headers or {})
        if retry_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_s)))

    def document(self) -> dict[str, Any]:
        """The members of the document."""
        return {
            "type": _URN + self.kind.name,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            **self.more,
        }

    def body(self) -> bytes:
        """The document's bytes."""
        return json.dumps(self.document(), ensure_ascii=False).encode()

    def response(self) -> Response:
        """The answer."""
        return Response(self.body(), self.kind.status, headers=self.headers, media_type=MEDIA_TYPE)


class ProblemDocument(BaseModel):
    """Why a request was not done (RFC 9457)."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="urn:dermascan:problem:NAME; see the list in the document's description")
    title: str
    status: int
    detail: str


def described(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for the OpenAPI document."""
    by_status: dict[int, list[Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {status: _described(status, of_it) for status, of_it in sorted(by_status.items())}


def _described(status: int, kinds: list[Kind]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "; ".join(f"{kind.title} ({kind.name})" for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in {429, 503}:
        response["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds"}}
    return response


EVERYWHERE: Final = (MALFORMED, FOREIGN_HOST, TOO_SLOW, TOO_LARGE, TOO_OFTEN, INTERNAL, BUSY, STOPPING)
"""What any request may come to."""
SIGNED_IN: Final = (*EVERYWHERE, NOT_SIGNED_IN, NOT_ALLOWED, FOREIGN_PAGE, NO_ACCESS)
"""The same of those that one must sign in for."""
