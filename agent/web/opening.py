"""Puts the web together: the one thing of it that the daemon knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from starlette.types import Scope

from agent.access.rate import RateLimit
from agent.access.refusals import RefusedSignIns
from agent.access.sessions import Sessions
from agent.access.tokens import FOLDER, Tokens
from agent.carrying import Finished
from agent.priority import stand_back
from agent.records.audit import AGENT, AuditAction
from agent.records.checkpoint import Rarely
from agent.sections import ApiSection
from agent.web.app import make_app
from agent.web.broadcast import Broadcast
from agent.web.carrier import Carrier
from agent.web.context import Context
from agent.web.events import tell_status
from agent.web.measuring import Figures
from agent.web.news import NewsDesk
from agent.web.ports import Agent
from agent.web.refusing import SlowRefusals
from agent.web.serving import CannotServe, Server
from agent.web.shell import Hosts, Shell, bounds_of
from agent.web.uploads import Uploads
from agent.web.views import Views

log = logging.getLogger(__name__)

THREADS: Final = 4
"""For what blocks: reading the database and files, writing uploads."""
REFUSALS_PER_S: Final = 1.0
REFUSALS_AT_ONCE: Final = 20


class Web:
    """The page and the interface of a running agent. Start it once, stop it once."""

    def __init__(self, agent: Agent, settings: ApiSection) -> None:
        """Put everything in its place; nothing is answered yet."""
        access = agent.config.device.state_dir / FOLDER
        tokens = Tokens(access)
        broadcast, figures, uploads = Broadcast(), Figures(), Uploads(agent.config.device.state_dir, agent.store.seal)
        self._rarely = Rarely(log, 300.0)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="web", initializer=stand_back)
        self._refused = RefusedSignIns(
            lambda detail: agent.store.audit(AuditAction.SIGN_IN_REFUSED, AGENT.who, AGENT.role, None, detail)
        )
        self._here = Context(
            agent=agent,
            tokens=tokens,
            sessions=Sessions(access, tokens),
            rate=RateLimit(settings.requests_per_s, max(1, round(2 * settings.requests_per_s))),
            refusals=RateLimit(REFUSALS_PER_S, REFUSALS_AT_ONCE),
            refused=self._refused,
            pool=self._pool,
            broadcast=broadcast,
            carrier=Carrier(agent, uploads, self._run),
            views=Views(),
            figures=figures,
        )
        self._desk = NewsDesk(agent, broadcast)
        hosts = Hosts(settings.host, loopback=settings.loopback, others=settings.allowed_hosts)
        bounds, refusals = bounds_of(settings.max_body_mb), SlowRefusals(settings.requests_per_s)
        shell = Shell(make_app(self._here), hosts, bounds, refusals=refusals, observe=self._observe)
        self._server = Server(shell, settings, self._tasks)

    @property
    def address(self) -> str:
        """Where the page is."""
        return self._server.address

    def start(self) -> None:
        """Begin to answer; does nothing while it does. Where it cannot, that is logged, and folders are watched on."""
        if self._server.alive:
            return
        try:
            self._desk.start()
            self._server.start()
        except CannotServe as error:
            self._rarely.error("there is no page and no interface: %s", error)
        else:
            log.info("the page and the interface are at %s", self.address)

    def finished(self, finished: Finished) -> None:
        """A capture came to its end: called after its commit, from an analyst's thread."""
        self._here.figures.finished(finished)
        self._desk.scan(finished.scan_id)

    def changed(self, scan_id: str) -> None:
        """Something of a scan that is shown changed."""
        self._desk.scan(scan_id)

    def posted(self) -> None:
        """Something was committed that may be a verdict."""
        self._desk.look_for_verdicts()

    def look_after(self) -> None:
        """Now and then: write down the refused sign-ins that were only counted."""
        self._refused.flush()

    def stop(self) -> None:
        """Answer no more."""
        self._here.broadcast.later(self._here.broadcast.close)
        self._server.stop()
        self._refused.flush(at_the_end=True)
        self._desk.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def _tasks(self) -> list[Coroutine[Any, Any, None]]:
        self._here.broadcast.belong_to(asyncio.get_running_loop())
        return [tell_status(self._here)]

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "none")
        if path != "/api/v1/events":  # how long a page stays open is no latency
            self._here.figures.answered(path, status, seconds)
