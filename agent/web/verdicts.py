"""Verdicts: what a clinician or a pathologist says of a scan, given, changed and taken back."""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from agent.messages.parts import DiagnosisClass
from agent.messages.verdicts import VerdictSource
from agent.records import verdicts
from agent.records.audit import Actor
from agent.records.errors import NotEnded, StoreClosed, StoreFull, UnknownScan, VerdictOverdue, VerdictRefused
from agent.records.verdicts import UNSAID
from agent.records.verdicts import Verdict as KeptVerdict
from agent.web.body import json_body, read_json
from agent.web.context import Context, Here, reply
from agent.web.gate import Judges, Visitor
from agent.web.models import Verdict
from agent.web.problems import (
    CONFLICT,
    FULL,
    INVALID,
    MEDIA,
    NO_SUCH_SCAN,
    NOT_ANSWERED,
    OTHER_VERDICT,
    SIGNED_IN,
    STOPPING,
    Problem,
    described,
)
from agent.web.scans import ScanId, no_such_scan, verdict_of

router = APIRouter(prefix="/api/v1", tags=["scans"])

_NAMESPACE = uuid.UUID("3b0b6a2e-6a0c-5a57-9d52-3f5f9c0d8f10")
"""Of the ids of verdicts that come with a key of their sender's: the same key is the same verdict."""


class GivenVerdict(BaseModel):
    """A verdict."""

    model_config = ConfigDict(extra="forbid", strict=True)

    diagnosis: DiagnosisClass | None
    """None: take back the verdict that stands."""
    source: VerdictSource
    note: Annotated[str, Field(max_length=10_000)] | None = None
    """In their own words; it stays on the device."""
    by: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Who says so, where it is not whose the token is; it stays on the device."""
    expected: Annotated[str, Field(max_length=128)] | None = None
    """The verdict that stands for the scan as far as you know (null: none); left out: whichever."""

    @field_validator("note", "by", "expected")
    @classmethod
    def _no_half_characters(cls, value: str | None) -> str | None:
        if value is not None and any(0xD800 <= ord(one) <= 0xDFFF or one == "\0" for one in value):
            raise ValueError("is no text")
        return value


@router.post(
    "/scans/{scan_id}/verdicts",
    status_code=201,
    response_model=Verdict,
    responses=described(*SIGNED_IN, NO_SUCH_SCAN, NOT_ANSWERED, OTHER_VERDICT, CONFLICT, MEDIA, INVALID, FULL),
    openapi_extra=json_body(GivenVerdict),
)
async def give(
    scan_id: ScanId,
    request: Request,
    here: Here,
    visitor: Judges,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, description="The same key again is the same verdict, given once."),
    ] = None,
) -> Response:
    """Give a verdict. It supersedes the one before it; both are kept, and the cloud is told."""
    given = await read_json(request, GivenVerdict)
    kept = await _keep(here, scan_id, given, visitor, idempotency_key)
    return reply(verdict_of(kept, patients=True), 201)


async def _keep(here: Context, scan_id: str, given: GivenVerdict, visitor: Visitor, key: str | None) -> KeptVerdict:
    identity = visitor.identity
    verdict_id = None if key is None else str(uuid.uuid5(_NAMESPACE, f"{identity.token_id}\0{scan_id}\0{key}"))
    try:
        promise = here.agent.store.verdict(
            scan_id,
            given.diagnosis,
            given.source,
            given.by or identity.name,
            given.note,
            verdict_id=verdict_id,
            actor=Actor(identity.name, identity.role.value),
            expected=given.expected if "expected" in given.model_fields_set else UNSAID,
        )
        verdict_id = await asyncio.shield(asyncio.wrap_future(promise))
    except UnknownScan:
        raise no_such_scan() from None
    except VerdictOverdue:
        current = (await here.run(_of_scan, here, scan_id))[-1:]
        raise Problem(
            OTHER_VERDICT,
            "Somebody else judged this scan since you looked at it. Look at their verdict, then give yours.",
            current=verdict_of(current[0], patients=True).model_dump(mode="json") if current else None,
        ) from None
    except NotEnded:
        raise Problem(NOT_ANSWERED, "Give the verdict when the scan has been answered.", retry_s=2) from None
    except VerdictRefused:
        raise Problem(
            CONFLICT, "There is no verdict to take back, or this key was used for another verdict before."
        ) from None
    except StoreFull:
        raise Problem(FULL, "There is no room to keep the verdict. Call your support.", retry_s=30) from None
    except StoreClosed:
        raise Problem(STOPPING, "The device is stopping; the verdict was not kept.", retry_s=10) from None
    return next(one for one in await here.run(_of_scan, here, scan_id) if one.verdict_id == verdict_id)


def _of_scan(here: Context, scan_id: str) -> list[KeptVerdict]:
    with here.agent.store.reading() as db:
        return verdicts.of_scan(db, scan_id)
