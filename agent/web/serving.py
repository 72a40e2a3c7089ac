"""The server: uvicorn on a thread and a loop of its own in the agent's process."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import uvicorn
from starlette.types import ASGIApp

from agent.priority import stand_back
from agent.sections import ApiSection
from agent.web.guard import HEADER_BYTES, GuardedProtocol

log = logging.getLogger(__name__)

START_S: Final = 10.0
GRACE_S: Final = 3
"""For requests at work when the agent is asked to stop."""
BACKLOG: Final = 512


Tasks: TypeAlias = Callable[[], list[Coroutine[Any, Any, None]]]


class CannotServe(Exception):
    """The address cannot be had, or the certificate cannot be used; one sentence with what to do."""


class Server:
    """Start it once, stop it once."""

    def __init__(self, app: ASGIApp, settings: ApiSection, tasks: Tasks) -> None:
        """``tasks`` run on the server's loop while it runs."""
        self._app, self._settings, self._tasks = app, settings, tasks
        self._place: tuple[str, int] = (settings.host, settings.port)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def address(self) -> str:
        """Where the page is."""
        host, port = self._place
        scheme = "https" if self._settings.cert is not None else "http"
        shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - for people
        return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}/"

    def start(self) -> None:
        """Begin, also where the thread died; returns when requests are taken.

        Raises:
            CannotServe: the address cannot be had, or the certificate cannot be used.
        """
        if self.alive or self._stopping:
            return
        server = uvicorn.Server(_config(self._app, self._settings))
        listening = _bind(self._settings)
        self._place = listening.getsockname()[:2]
        self._begun.clear()
        self._server = server
        self._thread = threading.Thread(target=self._run, args=(server, listening), name="web", daemon=True)
        self._thread.start()
        self._begun.wait(START_S)

    def stop(self) -> None:
        """Take no more requests, give those at work a moment, and end."""
        self._stopping = True
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(GRACE_S + 5.0)

    def _run(self, server: uvicorn.Server, listening: socket.socket) -> None:
        stand_back()
        try:
            asyncio.run(self._serve(server, listening))
        except BaseException:
            log.exception("the page and the interface broke off, and begin again at the next round")
        finally:
            listening.close()
            self._begun.set()

    async def _serve(self, server: uvicorn.Server, listening: socket.socket) -> None:
        tasks = [asyncio.ensure_future(task) for task in (*self._tasks(), self._tell_begun(server))]
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell_begun(self, server: uvicorn.Server) -> None:
        while not server.started:
            await asyncio.sleep(0.005)
        self._begun.set()


def _config(app: ASGIApp, settings: ApiSection) -> uvicorn.Config:
    # What uvicorn logs can hold a request's path and an exception's text: we log what is to be known ourselves (F30).
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.propagate, logger.disabled = False, True
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=HEADER_BYTES,
        ssl_certfile=settings.cert,
        ssl_keyfile=settings.key,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise CannotServe(
            f"api.cert = {str(settings.cert)!r}: certificate and key cannot be used ({error}); give a PEM certificate "
            "and its own key, which the agent's user may read"
        ) from error
    return config


def _bind(settings: ApiSection) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, kind, number, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, number)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise CannotServe(
            f"api.port = {port}: {host}:{port} cannot be had ({error.strerror or error}); end the program that has it, "
            "or choose another host or port"
        ) from error
    return listening
