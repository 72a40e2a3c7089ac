"""A small HTTPS server that answers in the design's shape, or goes wrong as it is told (F26).

Written on sockets, since much of what goes wrong lies below HTTP.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.answer.heatmap import heatmap_png
from engines.backend import Output
from engines.bundle import Bundle, load_bundle
from engines.classes import CLASSES
from engines.golden import golden_check
from engines.preprocess import normalise
from tests.fakes.certificates import CertificateAuthority, Issued

ATTENTION = np.linspace(0.0, 1.0, 196, dtype=np.float32).reshape(14, 14)


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: dict[str, Any]
    device: str | None
    """Common name of the client's certificate."""

    @property
    def rgb(self) -> np.ndarray:
        """The picture, ``[S, S, 3]`` uint8 RGB."""
        data = np.frombuffer(base64.b64decode(self.body["image"]), np.uint8)
        return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)


def answer(bundle: Bundle, output: Output) -> dict[str, Any]:
    """The core of the design's answer."""
    shares = dict(zip(CLASSES, (float(p) for p in output.probabilities[0]), strict=True))
    primary = max(shares, key=lambda name: shares[name])
    return {
        "diagnosis": {
            "primary": primary,
            "confidence": shares[primary],
            "melanoma_risk": shares["melanoma"],
            "all_classes": shares,
        },
        "attention_map": base64.b64encode(heatmap_png(output.attention[0])).decode(),
        "recommendation": "Follow up.",
        "model_version": bundle.label,
        "latency_ms": 12.5,
    }


def http(status: int, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Mode:
    """How connections go."""

    refuse: bool = False
    """Nobody listens."""
    deaf: bool = False
    """Connections are accepted, and nothing is said."""
    plain: bytes | None = None
    """Said instead of a TLS handshake."""
    server: Issued | None = None
    """Another certificate."""
    reply: Callable[[dict[str, Any]], bytes | None] | None = None
    """What is said instead of the right answer; None hangs up, b"" says nothing and stays."""
    drip: bytes = b""
    """Said again and again, in pieces, after the reply."""
    pause_s: float = 0.0
    """Before the reply; and between the pieces."""
    change: Callable[[dict[str, Any]], object] | None = None
    """Done to the right answer."""


@dataclass
class StandInCloud:
    """The server. ``infer`` is asked for the numbers."""

    folder: Path
    bundle: Bundle
    infer: Callable[[np.ndarray], Output]
    token: str | None = None
    mutual: bool = False
    mode: Mode = field(default_factory=Mode)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.ca = CertificateAuthority(self.folder)
        self._good = self.ca.server()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._listener: socket.socket | None = None
        self._listen(0)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def certificate(self, name: str, **about: Any) -> Issued:
        """A server's certificate with something wrong about it."""
        hosts: list[x509.GeneralName] = about.pop("hosts", [x509.DNSName("localhost")])
        return self.ca._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, hosts=hosts, **about)

    def be(self, mode: Mode | None = None) -> None:
        """Go on in another way: every connection there is ends."""
        self.mode = mode or Mode()
        self._hang_up()
        if self.mode.refuse and self._listener is not None:
            self._close_listener()
        elif not self.mode.refuse and self._listener is None:
            self._listen(self.port)

    def stop(self) -> None:
        self._gone.set()
        self._hang_up()
        if self._listener is not None:
            self._close_listener()

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def _close_listener(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()
        self._listener = None

    def _hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.mode), daemon=True).start()

    def _context(self, mode: Mode) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        shown = mode.server or self._good
        context.load_cert_chain(shown.cert, shown.key)
        context.load_verify_locations(self.ca.cert)
        context.verify_mode = ssl.CERT_REQUIRED if self.mutual else ssl.CERT_OPTIONAL
        return context

    def _serve(self, connection: socket.socket, mode: Mode) -> None:
        """One connection, to its end."""
        with self._lock:
            self._open.add(connection)
        tls: socket.socket = connection
        try:
            if mode.deaf:
                self._wait(connection)
                return
            if mode.plain is not None:
                connection.sendall(mode.plain)
                self._wait(connection)
                return
            tls = self._context(mode).wrap_socket(connection, server_side=True)
            with self._lock:
                self._open.discard(connection)
                self._open.add(tls)
            while self._one(tls, mode):
                pass
        except (OSError, ValueError):
            pass  # the other side had enough
        finally:
            with self._lock:
                self._open.discard(connection)
                self._open.discard(tls)
            # Closed the hard way: nothing stays in TIME_WAIT on a port that is to be listened at again.
            with contextlib.suppress(OSError):
                tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tls.close()

    def _wait(self, connection: socket.socket) -> None:
        """Say nothing until the other side or the test has enough."""
        while not self._gone.is_set() and connection.recv(65536):
            pass

    def _one(self, tls: socket.socket, mode: Mode) -> bool:
        """One request; False where there is none."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (part := tls.recv(65536)):
                return False
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (header.partition(": ") for header in rest)}
        while len(body) < int(headers.get("content-length", 0)):
            body += tls.recv(65536)
        certificate = tls.getpeercert() if isinstance(tls, ssl.SSLSocket) else None
        names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
        asked = Asked(line, headers, json.loads(body), names.get("commonName"))
        self.asked.append(asked)
        if mode.pause_s and not mode.drip:
            self._gone.wait(mode.pause_s)
        reply = self._reply(asked, mode)
        if reply is None:
            return False
        tls.sendall(reply)
        if not reply:
            self._wait(tls)
        while mode.drip and not self._gone.wait(mode.pause_s):
            tls.sendall(mode.drip)
        return True

    def _reply(self, asked: Asked, mode: Mode) -> bytes | None:
        if self.token is not None and asked.headers.get("authorization") != f"Bearer {self.token}":
            return http(401, b'{"error": "who are you?"}')
        right = answer(self.bundle, self.infer(asked.rgb))
        if mode.change is not None:
            mode.change(right)
        if mode.reply is not None:
            return mode.reply(right)
        return http(200, json.dumps(right).encode())


def scripted(folder: Path) -> Callable[[np.ndarray], Output]:
    """Answers the golden image of a bundle rightly, and every other picture evenly but for a lead of melanoma's."""
    bundle = load_bundle(folder)
    golden = golden_check(bundle)

    def infer(rgb: np.ndarray) -> Output:
        same = np.array_equal(normalise(rgb, bundle.manifest.input), golden.images)
        numbers = golden.probabilities if same else (0.4, *(0.1,) * 6)
        return Output(np.array([numbers], np.float32), ATTENTION[None])

    return infer


@contextlib.contextmanager
def stand_in(folder: Path, bundle: Path, **options: Any) -> Iterator[StandInCloud]:
    """A server for the time of a test, in a folder of the test's own."""
    server = StandInCloud(folder, load_bundle(bundle), scripted(bundle), **options)
    try:
        yield server
    finally:
        server.stop()
