"""The page's files, as they lie beside this module: read once, sent with a tag, nothing else reachable by a path."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from fastapi import Path as InPath

from agent.web.problems import EVERYWHERE, INVALID, NOT_FOUND, Problem, described

router = APIRouter(tags=["page"])

FOLDER: Final = Path(__file__).resolve().parent / "page"
_TYPES: Final = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)

Match = Annotated[str | None, Header(alias="If-None-Match")]


@dataclass(frozen=True)
class _File:
    content: bytes
    etag: str
    media_type: str


@lru_cache(maxsize=256)
def _load(path: Path, stamp: tuple[int, int]) -> _File:
    del stamp  # the file as it is now: while the agent runs it may be exchanged by an update
    content = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _File(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', kind)


@lru_cache(maxsize=1)
def _names(stamp: int) -> frozenset[str]:
    del stamp
    return frozenset(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


def _file(name: str) -> _File:
    # Only names that a listing of the folder gives: no path of a request ever reaches the file system (path tricks).
    stamp = max(one.stat().st_mtime_ns for one in (FOLDER, *(p for p in FOLDER.iterdir() if p.is_dir())))
    if name not in _names(stamp) or any(part.startswith(".") for part in name.split("/")):
        raise Problem(NOT_FOUND, "The page has no such file.")
    path = FOLDER / name
    status = path.stat()
    return _load(path, (status.st_mtime_ns, status.st_size))


def _reply(name: str, match: str | None) -> Response:
    file = _file(name)
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    if match is not None and file.etag in match:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)


@router.get(
    "/",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}},
        304: {"description": "Same"},
        **described(*EVERYWHERE, NOT_FOUND, INVALID),
    },
)
async def page(match: Match = None) -> Response:
    """The clinic's page."""
    return _reply("index.html", match)


@router.get(
    "/page/{path:path}",
    response_class=Response,
    responses={
        200: {"content": {"*/*": {}}},
        304: {"description": "Same"},
        **described(*EVERYWHERE, NOT_FOUND, INVALID),
    },
)
async def page_file(path: Annotated[str, InPath(description="As the page names it.")], match: Match = None) -> Response:
    """A file of the page."""
    return _reply(path, match)
