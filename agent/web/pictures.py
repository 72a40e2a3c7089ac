"""A scan's pictures: the original, a view for browsers, and the overlay."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import StreamingResponse

from agent.answer.scan import ScanState
from agent.records.listing import Listed
from agent.web.context import Context, Here
from agent.web.gate import SeesPatients
from agent.web.problems import (
    CHANGED_PICTURE,
    INVALID,
    NO_SUCH_SCAN,
    NOT_FOUND,
    NOT_YET,
    PICTURE_GONE,
    SIGNED_IN,
    Problem,
    described,
)
from agent.web.scans import ScanId, find
from agent.web.views import CHUNK, Original, open_original

router = APIRouter(prefix="/api/v1/scans/{scan_id}", tags=["pictures"])

OVERLAY_WAIT_S: Final = 3.0
"""The overlay is written right after the answer was committed; who asks in between waits for it."""
LARGEST_SIDE: Final = 4096
_CACHED: Final = "private, no-cache"
"""A browser may keep it, and asks each time whether it may still show it."""


def _binary(*media_types: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"content": dict.fromkeys(media_types, binary), "description": "The picture"}


_PICTURE = (*SIGNED_IN, NO_SUCH_SCAN, NOT_FOUND, CHANGED_PICTURE, PICTURE_GONE, INVALID)
Match = Annotated[str | None, Header(alias="If-None-Match", description="The ETag of what you have.")]


@router.get(
    "/overlay.png",
    responses={200: _binary("image/png"), **described(*SIGNED_IN, NO_SUCH_SCAN, NOT_FOUND, NOT_YET, INVALID)},
    response_class=Response,
)
async def overlay(scan_id: ScanId, here: Here, visitor: SeesPatients) -> Response:  # noqa: ARG001 - a right
    """The picture with the attention over it and the answer beside it, as it lies in the results folder."""
    scan = await here.run(find, here, scan_id)
    if scan.state is not ScanState.ANSWERED:
        raise Problem(NOT_FOUND, "Only an answered scan has an overlay.")
    file = here.agent.store.results_folder / f"{scan.scan_id}.png"
    for _ in range(round(OVERLAY_WAIT_S / 0.05)):
        if (content := await here.run(_read, file)) is not None:
            return Response(content, media_type="image/png", headers={"Cache-Control": _CACHED})
        await asyncio.sleep(0.05)
    raise Problem(NOT_YET, "The overlay has not been written yet, or was removed. Try again.", retry_s=2)


@router.get(
    "/image",
    responses={
        200: _binary(
            "image/jpeg", "image/png", "image/tiff", "image/bmp", "application/dicom", "application/octet-stream"
        ),
        304: {"description": "It is what you have"},
        **described(*_PICTURE),
    },
    response_class=Response,
)
async def image(scan_id: ScanId, here: Here, visitor: SeesPatients, match: Match = None) -> Response:  # noqa: ARG001
    """The picture as the camera wrote it, to the byte."""
    scan, sha256 = await _pictured(here, scan_id)
    headers = {"ETag": f'"{sha256}"', "Cache-Control": _CACHED}
    if _has(match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    original = await here.run(open_original, _path(scan), sha256)
    headers |= {
        "Content-Length": str(original.size),
        "Content-Disposition": f'inline; filename="{scan.scan_id}.{original.suffix}"',
    }
    return StreamingResponse(_send(here, original), headers=headers, media_type=original.media_type)


@router.get(
    "/view.jpg",
    responses={200: _binary("image/jpeg"), 304: {"description": "It is what you have"}, **described(*_PICTURE)},
    response_class=Response,
)
async def view(
    scan_id: ScanId,
    here: Here,
    visitor: SeesPatients,  # noqa: ARG001 - a right
    side: Annotated[int, Query(ge=64, le=LARGEST_SIDE, description="Long side in pixels, at most.")] = 1600,
    match: Match = None,
) -> Response:
    """What the model was shown before its colours were corrected, in a size and format that every browser shows."""
    scan, sha256 = await _pictured(here, scan_id)
    headers = {"ETag": f'"{sha256}-{side}"', "Cache-Control": _CACHED}
    if _has(match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    jpeg = await here.run(here.views.jpeg, _path(scan), sha256, side, here.agent.setting())
    return Response(jpeg, headers=headers, media_type="image/jpeg")


async def _pictured(here: Context, scan_id: str) -> tuple[Listed, str]:
    scan = await here.run(find, here, scan_id)
    if scan.image_sha256 is None:
        raise Problem(NOT_FOUND, "What was refused here was no file that could be read.")
    return scan, scan.image_sha256


def _path(scan: Listed) -> Path:
    return Path(os.fsdecode(scan.path_bytes))


def _has(match: str | None, etag: str) -> bool:
    return match is not None and etag in [one.strip().removeprefix("W/") for one in match.split(",")]


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


async def _send(here: Context, original: Original) -> AsyncIterator[bytes]:
    """The file in pieces: as many bytes as were promised, whatever becomes of the file meanwhile."""
    left = original.size
    try:
        while left > 0 and (block := await here.run(os.read, original.handle, min(CHUNK, left))):
            left -= len(block)
            yield block
    finally:
        os.close(original.handle)
