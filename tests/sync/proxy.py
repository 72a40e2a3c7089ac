"""A wire between the sync and its broker that can be cut, silenced, or made to break on a word."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Listens on a loopback port and passes everything on to ``port``."""

    def __init__(self, port: int, *, breaks_on: bytes | None = None, answer: bytes = b"") -> None:
        self._target = port
        self.breaks_on = breaks_on
        self.answer = answer
        """What is said to the one that is broken off."""
        self.silent = False
        """Takes everything and passes nothing on: a black hole."""
        self.accepted = 0
        self.broke = 0
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                tail = (tail + data)[-200_000:]
                if self.breaks_on is not None and self.breaks_on in tail:
                    self.broke += 1
                    source.sendall(self.answer)
                    break
                if not self.silent:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        """End every connection."""
        pairs, self._pairs = self._pairs, []
        for end in pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()
