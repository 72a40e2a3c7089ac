"""For those who only want to know whether it runs: no sign-in, and nothing in it of anybody."""

from __future__ import annotations

from fastapi import APIRouter, Response

from agent.web.context import Here, reply
from agent.web.models import Alive, Ready
from agent.web.problems import EVERYWHERE, described

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=Alive, responses=described(*EVERYWHERE))
async def healthz() -> Response:
    """The process is alive and answers."""
    return reply(Alive())


@router.get(
    "/readyz",
    response_model=Ready,
    responses={**described(*EVERYWHERE), 503: {"model": Ready, "description": "No rung takes work"}},
)
async def readyz(here: Here) -> Response:
    """A rung has passed its golden image since it was last started, and takes work."""
    ready = here.agent.setting().ladder.ready
    return reply(Ready(ready=ready), 200 if ready else 503, None if ready else {"Retry-After": "2"})
