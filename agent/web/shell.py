"""Around everything: what no request may do, whatever route it is for, and what every answer carries.

Bodies are bounded before they are read, each alone and all together; a request that comes too slowly is ended; names
that are not this device's are refused (DNS rebinding); a fault of ours is a problem document without its insides.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.web.body import SMALL_BYTES, too_large
from agent.web.patience import OutOfPatience, patience
from agent.web.problems import BUSY, FOREIGN_HOST, INTERNAL, MALFORMED, TOO_SLOW, Problem
from agent.web.refusing import SlowRefusals
from agent.web.static import CSP

log = logging.getLogger(__name__)

IN_FLIGHT: Final = 128
"""Requests at work at once; open event streams have a bound of their own."""
BODY_START_S: Final = 10.0
BODY_BYTES_PER_S: Final = 16 * 1024
"""A body may take ten seconds and the time that this speed needs for it: slower is nobody's network."""
SEND_S: Final = 30.0
"""A piece of an answer must be taken off our hands in this time."""
LARGE: Final = frozenset({"/api/v1/analyze"})
STREAMS: Final = frozenset({"/api/v1/events"})
EVERY_ANSWER: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": CSP,
    "X-Frame-Options": "DENY",
}
"""``Cache-Control: no-store`` goes with those that do not say otherwise."""


@dataclass(frozen=True)
class Bounds:
    """How much is taken."""

    body_bytes: int
    """Of a request with pictures."""
    bodies_bytes: int
    """Of all such requests together."""


class _Slow(Exception):
    """Whoever is at the other end does not take the answer."""


class Hosts:
    """By which names this device may be called."""

    def __init__(self, host: str, *, loopback: bool, others: Iterable[str]) -> None:
        names = {host, *others}
        self._names = {name.strip("[]").lower() for name in names} | ({"localhost"} if loopback else set())
        self._loopback = loopback

    def known(self, host: str) -> bool:
        """Whether a ``Host`` header names this device. No page from elsewhere can have a plain address for its name."""
        name = _without_port(host).strip("[]").lower()
        if name in self._names:
            return True
        try:
            return ip_address(name).is_loopback if self._loopback else ip_address(name) is not None
        except ValueError:
            return False


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


class Shell:
    """The outermost layer."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        bounds: Bounds,
        *,
        refusals: SlowRefusals,
        observe: Callable[[Scope, int, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``observe`` is told of each answer: the scope, the status, the seconds it took."""
        self._app, self._hosts, self._bounds, self._refusals = app, hosts, bounds, refusals
        self._observe, self._clock = observe, clock
        self._in_flight = 0
        self._reserved = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request in, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted = scope["path"] not in STREAMS
        began = self._clock()
        body = _Body(self, scope, receive)
        self._in_flight += counted

        def leave() -> None:
            nonlocal counted
            self._in_flight -= counted
            counted = False
            body.release()

        async def about_to_answer(status: int) -> None:
            if status >= 400:
                leave()  # while it waits, its room is another's
                await self._refusals.wait(status, (scope.get("client") or ("?",))[0])

        answer = _Answer(send, about_to_answer)
        try:
            self._judge(scope, body, counted=counted)
            await self._app(scope, body.receive, answer.send)
        except Problem as problem:
            await answer.say(scope, problem)
        except (_Slow, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the last place where one can be answered
            _log(error)
            if not answer.whole:
                detail = "The request was not done. Try again; if it stays so, call your support."
                await answer.say(scope, Problem(INTERNAL, detail))
        finally:
            leave()
            self._observe(scope, answer.status, self._clock() - began)

    def _judge(self, scope: Scope, body: _Body, *, counted: bool) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.known(hosts[0]):
            raise Problem(
                FOREIGN_HOST, "Call this device by its own address, or add the name to allowed_hosts in its settings."
            )
        names = [name for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)]
        if len(names) > len(set(names)):
            raise Problem(MALFORMED, "Each parameter of the query is given once.")
        if counted and self._in_flight > IN_FLIGHT:
            raise Problem(BUSY, "Too many requests are at work. Try again.", retry_s=1)
        body.begin(headers)

    def reserve(self, count: int) -> None:
        """Take room for a body's bytes; raises Problem where there is none."""
        if self._reserved + count > self._bounds.bodies_bytes:
            raise Problem(BUSY, "Too many pictures are on their way at once. Try again.", retry_s=2)
        self._reserved += count

    def release(self, count: int) -> None:
        """Give it back."""
        self._reserved -= count

    def most(self, scope: Scope) -> int:
        """How many bytes a request's body may have."""
        return self._bounds.body_bytes if scope["path"] in LARGE else SMALL_BYTES

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds."""
        return self._clock


class _Body:
    """A request's body on its way in."""

    def __init__(self, shell: Shell, scope: Scope, receive: Receive) -> None:
        self._shell, self._receive = shell, receive
        self._most = shell.most(scope)
        self._size = self._reserved = 0
        self._whole = False
        self._began = 0.0

    def begin(self, headers: Headers) -> None:
        """What the header says of it; raises Problem where that is too much."""
        self._began = self._shell.clock()
        said = headers.get("content-length")
        if said is None:
            return
        if not (said.isascii() and said.isdecimal()) or len(said) > 18:
            raise Problem(MALFORMED, "Content-Length is no number.")
        if int(said) > self._most:
            raise too_large(self._most)
        if int(said) > SMALL_BYTES:
            self._reserve(int(said))

    async def receive(self) -> Message:
        """The next piece; raises Problem where it comes too slowly, or there are too many."""
        if self._whole:
            return await self._receive()
        left = self._began + BODY_START_S + self._size / BODY_BYTES_PER_S - self._shell.clock()
        try:
            with patience(max(0.0, left)):
                message = await self._receive()
        except OutOfPatience:
            close = {"Connection": "close"}
            raise Problem(TOO_SLOW, "The request did not come in time. Try again.", headers=close) from None
        if message["type"] != "http.request":
            return message
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._most:
            raise too_large(self._most)
        if self._size > max(self._reserved, SMALL_BYTES):
            self._reserve(self._size - self._reserved)
        return message

    def release(self) -> None:
        """The request is done."""
        self._shell.release(self._reserved)
        self._reserved = 0

    def _reserve(self, count: int) -> None:
        self._shell.reserve(count)
        self._reserved += count


class _Answer:
    """An answer on its way out."""

    def __init__(self, send: Send, about_to_answer: Callable[[int], Awaitable[None]]) -> None:
        self._send, self._about_to_answer = send, about_to_answer
        self.status = 0
        self.whole = False

    async def send(self, message: Message) -> None:
        """Send a piece, with what every answer carries."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._about_to_answer(self.status)
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in EVERY_ANSWER.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        try:
            with patience(SEND_S):
                await self._send(message)
        except OutOfPatience:
            raise _Slow from None
        self.whole = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def say(self, scope: Scope, problem: Problem) -> None:
        """Answer with a problem, where nothing was answered yet."""
        if self.status:
            raise _Slow  # in the midst of another answer: the connection is all that can be ended
        await problem.response()(scope, _nothing, self.send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _log(error: BaseException) -> None:
    """Where it broke off, and nothing of what was in it: its text may hold what a request held (F30)."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("a request broke off: %s at %s", type(error).__name__, " < ".join(reversed(places[-6:])))


def bounds_of(max_body_mb: int) -> Bounds:
    """Bounds for a largest body: all together may have as much as one."""
    return Bounds(max_body_mb << 20, max(max_body_mb, 32) << 20)
