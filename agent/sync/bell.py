"""Wakes the sync's thread out of its wait for the network, from any thread."""

from __future__ import annotations

import socket


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
        try:
            self._in.send(b"!")
        except OSError:
            pass  # full: it rings already; closed: nobody waits

    def silence(self) -> None:
        """Make it ready to ring again."""
        try:
            while self._out.recv(4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Ring no more."""
        self._in.close()
        self._out.close()
