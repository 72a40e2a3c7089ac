"""``POST /api/v1/analyze`` and ``GET /healthz`` over HTTP/1.1, with the standard library's server.

Every request is bounded: in bytes, in time, and in how many are in work. The TLS handshake is made on the request's own
thread, so that a client that says nothing holds up nobody else. Nothing of a request is logged but its path and end.
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

from agent import __version__
from agent.intake.reasons import Rejection
from cloud.analyser import Analyser, BadRequest
from engines.backend import EngineError

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/analyze"
MAX_BODY: Final = 32 * 1024 * 1024
"""Bytes of JSON: a picture of 24 MB in base64."""
MAX_IN_WORK: Final = 8
MAX_CONNECTIONS: Final = 64
READ_S: Final = 20.0
"""For the whole of one request to arrive."""
IDLE_S: Final = 30.0
"""For the next request on a connection that is kept open, and for each single read or write."""
_CHUNK: Final = 1 << 16


@dataclass(frozen=True)
class Doorkeeper:
    """Who may come in: whoever has a certificate of our CA, or the token."""

    tls: ssl.SSLContext | None = None
    token: str | None = None

    @property
    def asks_certificate(self) -> bool:
        """Whether TLS itself refuses strangers."""
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED

    def lets_in(self, authorisation: str | None) -> bool:
        """Whether a request's ``Authorization`` is good."""
        if self.token is None:
            return True
        scheme, _, given = (authorisation or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())


class CloudServer(ThreadingHTTPServer):
    """Owns the listening socket. ``start`` and ``stop`` it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        analyser: Analyser,
        doorkeeper: Doorkeeper,
        consumer_state: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Listen.

        Args:
            address: host and port; port 0 takes a free one, see ``server_port``.
            analyser: answers; its owner starts and stops it.
            doorkeeper: TLS and token.
            consumer_state: for ``/healthz``.

        Raises:
            OSError: the address cannot be listened on.
        """
        self.analyser, self.doorkeeper, self.consumer_state = analyser, doorkeeper, consumer_state
        self.in_work = threading.BoundedSemaphore(MAX_IN_WORK)
        self._open = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="cloud-http", daemon=True)

    def start(self) -> None:
        """Answer from now on; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection, or close it where there are too many."""
        if not self._open.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS on the connection's own thread, then its requests."""
        request.settimeout(IDLE_S)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.doorkeeper.tls is None:
            super().finish_request(request, client_address)
            return
        with self.doorkeeper.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's names
        """A connection that broke, or a handshake that failed, is no event; anything else is ours to mend."""
        import sys

        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log.info("a connection ended early: %s", error.__class__.__name__)
        else:
            log.exception("a request could not be answered")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"dermascan-cloud/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path != "/healthz":
            self._refuse(HTTPStatus.NOT_FOUND, f"there is GET /healthz and POST {PATH}")
            return
        owner = self._owner
        state: dict[str, Any] = {"ready": owner.analyser.ready, "model": owner.analyser.model}
        if owner.consumer_state is not None:
            state["consumer"] = dict(owner.consumer_state())
        self._send(HTTPStatus.OK if state["ready"] else HTTPStatus.SERVICE_UNAVAILABLE, state)

    def do_POST(self) -> None:
        owner = self._owner
        if not owner.doorkeeper.lets_in(self.headers.get("Authorization")):
            self._refuse(HTTPStatus.UNAUTHORIZED, "a bearer token is asked for", {"WWW-Authenticate": "Bearer"})
        elif self.path != PATH:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is GET /healthz and POST {PATH}")
        elif "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "send the body with its Content-Length")
        elif not (length := self.headers.get("Content-Length", "")).isascii() or not length.isdecimal():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing or no number")
        elif len(length) > 12 or int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY} bytes are read")
        elif not owner.in_work.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are in work", {"Retry-After": "1"})
        else:
            try:
                self._analyse(int(length))
            finally:
                owner.in_work.release()

    def _analyse(self, length: int) -> None:
        try:
            body = self._read(length)
        except TimeoutError:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {READ_S:.0f} s")
            return
        if body is None:
            self.close_connection = True
            return
        if not self._owner.analyser.ready:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, _problem("the engine is not ready"), {"Retry-After": "1"})
            return
        try:
            answer = self._owner.analyser.analyse(body, self._peer())
        except BadRequest as error:
            self._send(HTTPStatus.BAD_REQUEST, _problem(str(error)))
        except Rejection as rejection:
            problem = _problem(rejection.sentence) | {"reason": rejection.reason.value}
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, problem)
        except EngineError as error:
            log.error("no engine answered: %s", error)  # noqa: TRY400 - the sentence says it all
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, _problem("no engine answered"), {"Retry-After": "1"})
        else:
            self._send_bytes(HTTPStatus.OK, answer.model_dump_json().encode())

    @property
    def _owner(self) -> CloudServer:
        return cast("CloudServer", self.server)

    def _read(self, length: int) -> bytes | None:
        """The body; None where the client went away. A drip of bytes does not go on for ever."""
        end = time.monotonic() + READ_S
        body = bytearray()
        while len(body) < length:
            self.connection.settimeout(max(0.01, min(IDLE_S, end - time.monotonic())))
            part = cast("Any", self.rfile).read1(min(_CHUNK, length - len(body)))
            if not part:
                return None
            body += part
            if time.monotonic() > end:
                raise TimeoutError
        self.connection.settimeout(IDLE_S)
        return bytes(body)

    def _peer(self) -> str | None:
        """The common name in the client's certificate: the device's id."""
        certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        names = cast("Any", (certificate or {}).get("subject", ()))
        return next((value for part in names for key, value in part if key == "commonName"), None)

    def _refuse(self, status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer without having read the body, which ends the connection."""
        self.close_connection = True
        self._send(status, _problem(sentence), {**(headers or {}), "Connection": "close"})

    def _send(self, status: HTTPStatus, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(content).encode(), headers)

    def _send_bytes(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """To the log, without what a client wrote into its request line."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        path = getattr(self, "path", None)  # a request line that is none has none
        known = path if path in {PATH, "/healthz"} else "another path"
        log.info("%s: %s", known, int(code) if isinstance(code, HTTPStatus) else code)


def _problem(sentence: str) -> dict[str, Any]:
    return {"error": sentence}


def server_context(cert: str, key: str, client_ca: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; with ``client_ca`` only clients with a certificate of that CA get in.

    Raises:
        OSError: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.load_verify_locations(cafile=client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
