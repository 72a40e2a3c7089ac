"""Signing in and out: a token for a cookie that no script can read."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from agent.access.files import AccessError
from agent.access.sessions import HOURS
from agent.access.tokens import LONGEST_SECRET, Refusal
from agent.records.audit import AuditAction
from agent.web.body import json_body, read_json
from agent.web.context import Here, reply
from agent.web.gate import COOKIE, PAGE_HEADER, Anyone, address, insist_on_our_page, refused, unavailable
from agent.web.models import SessionInfo
from agent.web.problems import (
    EVERYWHERE,
    FOREIGN_PAGE,
    INVALID,
    MEDIA,
    NO_ACCESS,
    NOT_SIGNED_IN,
    SIGNED_IN,
    described,
)

router = APIRouter(prefix="/api/v1", tags=["session"])


class SignIn(BaseModel):
    """What one signs in with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[str, Field(min_length=1, max_length=LONGEST_SECRET, repr=False)]


@router.post(
    "/session",
    status_code=204,
    responses=described(*EVERYWHERE, NOT_SIGNED_IN, NO_ACCESS, FOREIGN_PAGE, MEDIA, INVALID),
    openapi_extra=json_body(SignIn),
)
async def sign_in(request: Request, here: Here) -> Response:
    """Sign in: a token for a session's cookie."""
    if request.headers.get(PAGE_HEADER) is not None or request.headers.get("sec-fetch-site") not in {None, "none"}:
        insist_on_our_page(request)  # nobody is to be signed in as somebody else by a foreign page
    given = await read_json(request, SignIn)
    try:
        identity = here.tokens.authenticate(given.token, datetime.now(timezone.utc))
        if isinstance(identity, Refusal):
            raise refused(here, request, identity)
        secret = await here.run(here.sessions.open, identity)
    except AccessError as error:
        raise unavailable(error) from error
    here.agent.store.audit(
        AuditAction.SIGN_IN,
        identity.name,
        identity.role.value,
        identity.token_id,
        {"address": address(request)},
    )
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(HOURS * 3600),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.get("/session", response_model=SessionInfo, responses=described(*SIGNED_IN))
async def who(visitor: Anyone, here: Here) -> Response:
    """Who is signed in."""
    identity, session = visitor.identity, visitor.session
    ends = session.expires_at if session is not None else here.tokens.expires_at(identity.token_id)
    expires_at = None if ends is None else ends.isoformat(timespec="seconds").replace("+00:00", "Z")
    return reply(SessionInfo(name=identity.name, role=identity.role, expires_at=expires_at))


@router.delete("/session", status_code=204, responses=described(*SIGNED_IN))
async def sign_out(visitor: Anyone, request: Request, here: Here) -> Response:
    """End the session; of a token that was sent with the request nothing ends."""
    if visitor.session is not None:
        try:
            await here.run(here.sessions.close, request.cookies[COOKIE])
        except AccessError as error:
            raise unavailable(error) from error
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response
