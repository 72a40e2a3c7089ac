"""Connections, before there is a request on them: no more than there is room for, none that says nothing for long.

uvicorn waits for a request's header without end, and closes a connection with unread bytes on it so that the other end
may never see the answer. Both are mended here, as its protocol class may be another one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.web.problems import BUSY, HEADERS_TOO_LARGE, MALFORMED, MEDIA_TYPE, TOO_SLOW, Problem

CONNECTIONS: Final = 384
"""Open at once, event streams included: well below the files that a process may have open."""
HEADER_S: Final = 10.0
HEADER_BYTES: Final = 32 * 1024
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 8 << 20
"""Taken off a connection that is refused and sends on, in so long: no faster, as there is more important work."""


class GuardedProtocol(H11Protocol):
    """A connection."""

    _patience: asyncio.TimerHandle | None = None
    _lingering: _Lingering | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or say that there is no room."""
        self._lingering = _Lingering(transport, self)
        super().connection_made(self._lingering)  # type: ignore[arg-type]
        if len(self.connections) > CONNECTIONS:
            self._say(Problem(BUSY, "Too many connections are open to this device. Try again.", retry_s=2))
        else:
            self._expect_header()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._lingering is not None and self._lingering.closing:
            self._lingering.discard(len(data))
            return
        if self._patience is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_header()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._calm()

    def eof_received(self) -> None:
        """The other end says no more."""
        if self._lingering is not None and self._lingering.closing:
            self._lingering.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._calm()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP: said as everything else is."""
        del msg
        long = len(self.conn.trailing_data[0]) >= HEADER_BYTES
        kind = HEADERS_TOO_LARGE if long else MALFORMED
        self._say(Problem(kind, "This is no request that can be read."))

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """There are none here."""
        del event
        self._say(Problem(MALFORMED, "There are no web sockets here."))

    def _expect_header(self) -> None:
        self._patience = self.loop.call_later(HEADER_S, self._out_of_patience)

    def _calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _out_of_patience(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self._say(Problem(TOO_SLOW, "The request's header did not come in time."))

    def _say(self, problem: Problem) -> None:
        """Answer past the application, and close."""
        self._calm()
        body = problem.body()
        lines = [
            f"HTTP/1.1 {problem.kind.status} {problem.kind.name}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            "Cache-Control: no-store",
            *(f"{name}: {value}" for name, value in problem.headers.items()),
        ]
        self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        self.transport.close()


class _Lingering:
    """A transport that, when it is closed while the other end still sends, lets that end read the answer first."""

    def __init__(self, transport: asyncio.Transport, protocol: GuardedProtocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._left = LINGER_BYTES
        self._end: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def closing(self) -> bool:
        """Whether only its end is waited for."""
        return self._end is not None

    def is_closing(self) -> bool:
        """Whether no more can be said."""
        return self.closing or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not self.closing:
            self._transport.write(data)

    def close(self) -> None:
        """Close, at once where the whole request was read."""
        if self.closing or self._transport.is_closing():
            return
        if self._protocol.conn.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}:
            self._transport.close()
            return
        self._end = self._protocol.loop.call_later(LINGER_S, self.finish)
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def discard(self, count: int) -> None:
        """More came that nobody reads."""
        self._left -= count
        if self._left <= 0:
            self.finish()
            return
        self._transport.pause_reading()
        later = count / LINGER_BYTES * LINGER_S
        self._pause = self._protocol.loop.call_later(later, self._transport.resume_reading)

    def finish(self) -> None:
        """That was long enough."""
        for timer in (self._end, self._pause):
            if timer is not None:
                timer.cancel()
        self._transport.close()
