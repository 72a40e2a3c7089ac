"""What every route has at hand: the agent, who may, and a few threads for what blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request, Response
from pydantic import BaseModel

from agent.access.rate import RateLimit
from agent.access.refusals import RefusedSignIns
from agent.access.sessions import Sessions
from agent.access.tokens import Tokens
from agent.web.ports import Agent

if TYPE_CHECKING:
    from agent.web.broadcast import Broadcast
    from agent.web.carrier import Carrier
    from agent.web.measuring import Figures
    from agent.web.views import Views

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """Made once at the start."""

    agent: Agent
    tokens: Tokens
    sessions: Sessions
    rate: RateLimit
    """For each token."""
    refusals: RateLimit
    """For each address whose secret was not known."""
    refused: RefusedSignIns
    """Tells the audit of them."""
    pool: ThreadPoolExecutor
    broadcast: Broadcast
    carrier: Carrier
    views: Views
    figures: Figures

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what reads files or the database on one of the web's own threads."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(function, *args, **kwargs))


async def _context(request: Request) -> Context:  # async: what is not, FastAPI gives to a thread and waits for
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context)]


def reply(said: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as JSON, written once by pydantic's own writer."""
    return Response(said.model_dump_json(), status, headers=headers, media_type="application/json")
