"""Wakes the sync's thread out of its wait for the network, from any thread."""

from __future__ import annotations

import socket
from contextlib import suppress


class Bell:
    """A pair of sockets: ringing it makes ``fileno`` readable."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair()
        self._in.setblocking(False)
        self._out.setblocking(False)

    def fileno(self) -> int:
        """To wait on."""
        return self._out.fileno()

    def ring(self) -> None:
        """Wake whoever waits. Ringing a closed or an already ringing bell does nothing."""
        with suppress(OSError):  # full: it rings already; closed: nobody waits
            self._in.send(b"!")

    def silence(self) -> None:
        """Make it ready to ring again."""
        with suppress(BlockingIOError):
            while self._out.recv(4096):
                pass

    def close(self) -> None:
        """Ring no more."""
        self._in.close()
        self._out.close()
