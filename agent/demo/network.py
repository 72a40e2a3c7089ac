"""The line between the agent and the broker: a relay on this machine, with a cable that can be pulled.

A pulled cable tells nobody: what is sent is lost, and no connection ends. When it is put back the old connection is
gone, as after a router's restart, and the agent has to connect anew and send again what was lost.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

LAST_WORDS_S: Final = 0.25
"""After the pull something still gets through to the cloud, and nothing back: the hardest moment, since the cloud then
has an event of which the agent must believe that it was lost (F19)."""
_LOOK_S: Final = 0.05
_CONNECT_S: Final = 5.0
_PIECE: Final = 1 << 16


class Network:
    """Owns the relay's port and thread. It carries one connection after the other, as the agent has only one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_S)
        self.port = int(self._listener.getsockname()[1])
        self._broker = 0
        self._laid = threading.Event()
        self._closing = threading.Event()
        self._pulled_at: float | None = None
        self._outages = 0
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    def lead_to(self, port: int) -> None:
        """From now on there is something at the other end; who came before has waited."""
        self._broker = port
        self._laid.set()

    @property
    def pulled(self) -> bool:
        """Whether the cable is out."""
        return self._pulled_at is not None

    def pull(self) -> None:
        """Take the cable out."""
        self._pulled_at = self._clock()

    def put_back(self) -> None:
        """Put the cable back; connections from before are gone."""
        self._outages += 1
        self._pulled_at = None

    def close(self) -> None:
        """End the relay and what it carries."""
        self._closing.set()
        self._laid.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            with suppress(OSError):  # nobody came, there is no broker, or one side ended: the next, please
                near, _ = self._listener.accept()
                with near:
                    self._laid.wait()
                    with socket.create_connection(("127.0.0.1", self._broker), _CONNECT_S) as far:
                        self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """Until one side ends the connection, or an outage ended it."""
        outages = self._outages
        other = {near: far, far: near}
        for end in other:
            end.settimeout(_CONNECT_S)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = dict.fromkeys(other, True)
        while self._outages == outages and not self._closing.is_set():
            for end in select.select(list(other), [], [], _LOOK_S)[0]:
                data = end.recv(_PIECE)
                if not data:
                    return
                # A stream with a hole in it is never carried on.
                whole[end] = whole[end] and self._passes(upward=end is near) and self._outages == outages
                if whole[end]:
                    other[end].sendall(data)

    def _passes(self, *, upward: bool) -> bool:
        pulled_at = self._pulled_at
        return pulled_at is None or (upward and self._clock() - pulled_at < LAST_WORDS_S)
