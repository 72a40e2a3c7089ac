"""Server-sent events: what is new, as it happens."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent.web.broadcast import Broadcast, Client, News
from agent.web.context import Here
from agent.web.gate import Right, SeesScans
from agent.web.problems import BUSY, INVALID, SIGNED_IN, Problem, described
from agent.web.status import status_now

router = APIRouter(prefix="/api/v1", tags=["events"])

STATUS_EVERY_S: Final = 5.0
KEEP_ALIVE_S: Final = 10.0
"""Nothing heard for so long: a comment goes out, by which both ends see whether the other is there."""
FIRST: Final = b"retry: 2000\n: here\n\n"
_STREAM: Final[dict[str, Any]] = {
    "description": "A stream of events: scan, verdict, status, reload",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


class EventStream(Response):
    """A response without an end, which ends when the client goes or the agent stops."""

    media_type = "text/event-stream"

    def __init__(self, broadcast: Broadcast, client: Client) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._broadcast, self._client = broadcast, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what is new until one of the two goes."""
        del scope
        gone = asyncio.ensure_future(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": FIRST, "more_body": True})
            while not self._client.closed:
                body = await self._client.next(KEEP_ALIVE_S) or (b"" if self._client.closed else b": here\n\n")
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._broadcast.leave(self._client)
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._client.close()


@router.get(
    "/events",
    responses={200: _STREAM, **described(*SIGNED_IN, BUSY, INVALID)},
    response_class=Response,
)
async def events(
    here: Here,
    visitor: SeesScans,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was heard.")] = None,
) -> Response:
    """What is new: scan (a summary), verdict, status (every 5 s); reload: ask for the list anew."""
    client = here.broadcast.open(patients=visitor.may(Right.PATIENTS), last_heard=last_event_id or None)
    if client is None:
        raise Problem(BUSY, "Too many pages are open on this device. Close some.", retry_s=10)
    client.hear(News.of("status", (await here.run(status_now, here.agent)).model_dump_json()))
    return EventStream(here.broadcast, client)


async def tell_status(here: Here) -> None:
    """Tell every open page how the device does, again and again; the loop's own task."""
    while True:
        await asyncio.sleep(STATUS_EVERY_S)
        if here.broadcast.clients:
            with contextlib.suppress(Exception):
                status = await here.run(status_now, here.agent)
                here.broadcast.tell_now(News.of("status", status.model_dump_json()))
