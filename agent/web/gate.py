"""Who may do what: a token or a session, a role's rights, and a page that is our own (CSRF)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from agent.access.files import AccessError
from agent.access.sessions import Session
from agent.access.tokens import Identity, Refusal, Role
from agent.web.context import Context, Here
from agent.web.problems import FOREIGN_PAGE, NO_ACCESS, NOT_ALLOWED, NOT_SIGNED_IN, TOO_OFTEN, Problem

log = logging.getLogger(__name__)

COOKIE: Final = "dermascan_session"
PAGE_HEADER: Final = "X-DermaScan-Page"
SAFE: Final = ("GET", "HEAD", "OPTIONS")


class Right(Enum):
    """What somebody may do."""

    SCANS = "see scans"
    PATIENTS = "see whose they are, and their pictures"
    ANALYZE = "have pictures analysed"
    JUDGE = "give verdicts"
    STATUS = "see how the device does"
    METRICS = "see its metrics"


RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.CLINICIAN: frozenset({Right.SCANS, Right.PATIENTS, Right.ANALYZE, Right.JUDGE, Right.STATUS}),
    Role.INTEGRATION: frozenset(Right),
    Role.TECHNICIAN: frozenset({Right.SCANS, Right.STATUS, Right.METRICS}),
}


@dataclass(frozen=True)
class Visitor:
    """Who is there, and how they are known."""

    identity: Identity
    session: Session | None = None
    """None: known by the token itself."""

    def may(self, right: Right) -> bool:
        """Whether their role has a right."""
        return right in RIGHTS[self.identity.role]


_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="dermascan token create")
_cookie = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="session",
    description=f"From POST /api/v1/session. What changes anything needs the header {PAGE_HEADER}: 1 beside it.",
)


async def visitor(
    request: Request,
    here: Here,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> Visitor:
    """Who comes with the request; a Problem where nobody we know does.

    On the loop: it takes a stat and a hash, and a thread's turn takes longer than that.
    """
    return _who(request, here, bearer, cookie)


def _who(request: Request, here: Context, bearer: HTTPAuthorizationCredentials | None, cookie: str | None) -> Visitor:
    try:
        known = _known(here, bearer, cookie)
    except AccessError as error:
        raise unavailable(error) from error
    if known is None:
        raise _not_signed_in()
    if isinstance(known, Refusal):
        raise refused(here, request, known)
    if known.session is not None and request.method not in SAFE:
        insist_on_our_page(request)
    if wait_s := here.rate.allow(known.identity.token_id):
        raise Problem(TOO_OFTEN, "Too many requests came with this token. Wait a moment.", retry_s=wait_s)
    return known


def _known(here: Context, bearer: HTTPAuthorizationCredentials | None, cookie: str | None) -> Visitor | Refusal | None:
    """None: whoever it is brought nothing to be known by, as a page does that is opened for the first time."""
    if bearer is not None:  # before the cookie: a program that brings both means its token
        identity = here.tokens.authenticate(bearer.credentials, datetime.now(timezone.utc))
        return identity if isinstance(identity, Refusal) else Visitor(identity)
    if cookie is None:
        return None
    session = here.sessions.authenticate(cookie)
    return session if isinstance(session, Refusal) else Visitor(session.identity, session)


def refused(here: Context, request: Request, refusal: Refusal) -> Problem:
    """The answer to a secret that lets nobody in: the same whatever is wrong with it, and slower if it goes on."""
    here.refused.refused(refusal, address(request))
    if wait_s := here.refusals.allow(address(request)):
        return Problem(TOO_OFTEN, "Too many tries with a token that is not known. Wait a moment.", retry_s=wait_s)
    log.info("somebody was not let in: the secret is %s", refusal.value)
    return _not_signed_in()


def _not_signed_in() -> Problem:
    return Problem(
        NOT_SIGNED_IN,
        "Sign in with a token of this device, or send it as Authorization: Bearer TOKEN. It may have ended.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def unavailable(error: AccessError) -> Problem:
    """The answer while the files of who may are not to be believed, or cannot be written."""
    log.error("nobody is let in: %s", error)
    return Problem(NO_ACCESS, "The list of tokens cannot be used just now. Call your support.", retry_s=60)


def address(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "?"


def insist_on_our_page(request: Request) -> None:
    """A browser sends its cookie along with what any page asks: let only our own page change anything (CSRF)."""
    headers = request.headers
    ours = f"{request.url.scheme}://{headers.get('host', '')}"
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if (
        headers.get(PAGE_HEADER) != "1"
        or (origin is not None and origin.lower() != ours.lower())
        or (site is not None and site != "same-origin")
    ):
        raise Problem(FOREIGN_PAGE, f"Ask from this device's own page, which sends {PAGE_HEADER}: 1, or with a token.")


def insist(request: Request, here: Context, right: Right) -> None:
    """The same as `may`, where a route decides by itself whether one must sign in."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    bearer = HTTPAuthorizationCredentials(scheme=scheme, credentials=secret) if scheme.lower() == "bearer" else None
    _allowed(_who(request, here, bearer, request.cookies.get(COOKIE)), right)


def may(right: Right) -> Callable[[Visitor], Awaitable[Visitor]]:
    """A dependency: the visitor, who must have a right."""

    async def check(visitor: Annotated[Visitor, Depends(visitor)]) -> Visitor:
        return _allowed(visitor, right)

    return check


def _allowed(visitor: Visitor, right: Right) -> Visitor:
    if not visitor.may(right):
        raise Problem(NOT_ALLOWED, f"The role {visitor.identity.role.value} may not {right.value}.")
    return visitor


Anyone = Annotated[Visitor, Depends(visitor)]
SeesScans = Annotated[Visitor, Depends(may(Right.SCANS))]
SeesPatients = Annotated[Visitor, Depends(may(Right.PATIENTS))]
Analyzes = Annotated[Visitor, Depends(may(Right.ANALYZE))]
Judges = Annotated[Visitor, Depends(may(Right.JUDGE))]
SeesStatus = Annotated[Visitor, Depends(may(Right.STATUS))]
