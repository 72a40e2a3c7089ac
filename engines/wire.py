"""Messages between the agent and its worker process: a JSON head, then float32 arrays, over a socket pair."""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LENGTH: Final = struct.Struct("!I")
_MOST_HEAD: Final = 1 << 20
_MOST_BYTES: Final = 1 << 28
_BUFFER: Final = 1 << 20
"""Room in the socket for a whole 224 x 224 input (600 kB), where the system grants it."""

Floats = NDArray[np.float32]


class Garbled(Exception):
    """The other side sent what is no message."""


class Channel:
    """One end of the pair. No pickle: what a process in a bad state sends is never run, only read."""

    def __init__(self, end: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._socket, self._clock = end, clock
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    def fileno(self) -> int:
        """The socket's descriptor: readable when a message or the other side's end has come."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end; the other side reads end-of-file."""
        self._socket.close()

    def has_data(self) -> bool:
        """Whether bytes wait to be read; False at end-of-file."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def _arm(self, deadline: float | None) -> None:
        if deadline is None:
            self._socket.settimeout(None)
            return
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def send(self, head: Mapping[str, object], arrays: Sequence[Floats] = (), deadline: float | None = None) -> None:
        """Send a message by ``deadline`` (on the clock; None waits for ever).

        Raises:
            TimeoutError: the other side does not read. The stream is then broken: close it.
            OSError: the other side is gone.
        """
        text = json.dumps({**head, "shapes": [array.shape for array in arrays]}).encode()
        self._arm(deadline)
        self._socket.sendall(_LENGTH.pack(len(text)) + text)
        for array in arrays:
            if not array.size:
                continue
            self._arm(deadline)
            self._socket.sendall(np.ascontiguousarray(array, dtype=np.float32).data.cast("B"))

    def _fill(self, view: memoryview, deadline: float | None) -> None:
        got = 0
        while got < len(view):
            self._arm(deadline)
            count = self._socket.recv_into(view[got:])
            if count == 0:
                raise EOFError
            got += count

    def receive(self, deadline: float | None = None) -> tuple[dict[str, Any], list[Floats]]:
        """The next message, whole, by ``deadline``.

        Raises:
            TimeoutError: it did not come in time.
            EOFError: the other side is gone.
            OSError: the other side is gone.
            Garbled: what came is no message, or an absurdly large one.
        """
        length = bytearray(_LENGTH.size)
        self._fill(memoryview(length), deadline)
        (size,) = _LENGTH.unpack(length)
        if size > _MOST_HEAD:
            raise Garbled(f"a head of {size} bytes")
        text = bytearray(size)
        self._fill(memoryview(text), deadline)
        try:
            head = json.loads(text)
            shapes = [tuple(int(side) for side in shape) for shape in head["shapes"]]
        except (ValueError, TypeError, KeyError) as error:
            raise Garbled("a head that cannot be read") from error
        if any(side < 0 for shape in shapes for side in shape) or sum(map(math.prod, shapes)) * 4 > _MOST_BYTES:
            raise Garbled(f"arrays of shapes {shapes}")
        arrays = []
        for shape in shapes:
            array: Floats = np.empty(shape, dtype=np.float32)
            if array.size:
                self._fill(array.reshape(-1).data.cast("B"), deadline)
            arrays.append(array)
        return head, arrays
