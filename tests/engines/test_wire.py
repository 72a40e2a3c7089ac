"""Messages between the processes: whole, in time, and nothing garbled is believed."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from engines.wire import Channel, Garbled


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (0, 7), (), (32, 3, 224, 224)])
def test_arrays_arrive_as_they_were(pair: tuple[Channel, socket.socket], shape: tuple[int, ...]) -> None:
    here, there = pair[0], Channel(pair[1])
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    sender = threading.Thread(target=here.send, args=({"id": 5}, [array, array[..., None]]))
    sender.start()
    head, arrays = there.receive(time.monotonic() + 5)
    sender.join()
    assert head["id"] == 5
    np.testing.assert_array_equal(arrays[0], array)
    np.testing.assert_array_equal(arrays[1], array[..., None])


def message(head: object) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("!I", len(text)) + text


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        struct.pack("!I", 3) + b"{{{",
        struct.pack("!I", 2) + b"\xff\xfe",
        message([1]),
        message({"id": 1}),
        message({"shapes": 3}),
        message({"shapes": [["x"]]}),
        message({"shapes": [[-1, -1]]}),
        message({"shapes": [[1 << 40]]}),
    ],
)
def test_what_is_no_message_is_said_to_be_garbled(pair: tuple[Channel, socket.socket], data: bytes) -> None:
    pair[1].sendall(data)
    with pytest.raises(Garbled):
        pair[0].receive(time.monotonic() + 5)


def test_half_a_message_ends_at_the_deadline_or_with_the_sender(pair: tuple[Channel, socket.socket]) -> None:
    pair[1].sendall(message({"shapes": [[100]]}) + b"abc")
    with pytest.raises(TimeoutError):
        pair[0].receive(time.monotonic() + 0.05)
    pair[1].close()
    with pytest.raises(EOFError):
        pair[0].receive(time.monotonic() + 5)


def test_a_reader_that_does_not_read_ends_the_sending_at_the_deadline(pair: tuple[Channel, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        pair[0].send({"id": 1}, [np.zeros(1 << 22, np.float32)], time.monotonic() + 0.05)
