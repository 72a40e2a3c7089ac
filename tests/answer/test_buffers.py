"""Buffers that are lent, one at a time to each, and used again."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np

from agent.answer.buffers import Buffers
from agent.answer.png import encode_rgb
from tests.answer.conftest import decoded


def address(buffer: np.ndarray) -> int:
    return int(buffer.__array_interface__["data"][0])


def test_one_that_was_given_back_is_lent_again() -> None:
    buffers = Buffers(1)
    with buffers.lend(1000) as first:
        here = address(first)
    with buffers.lend(500) as second:
        assert (address(second), second.shape, second.dtype) == (here, (500,), np.uint8)


def test_two_at_once_never_share_one() -> None:
    buffers = Buffers(2)
    with buffers.picture(10, 20) as one, buffers.picture(10, 20) as other:
        assert one.shape == other.shape == (10, 20, 3)
        assert not np.shares_memory(one, other)


def test_a_larger_one_takes_the_place_of_one_too_small() -> None:
    buffers = Buffers(1)
    with buffers.lend(10):
        pass
    with buffers.lend(1000) as larger:
        here = address(larger)
    with buffers.lend(10) as small:
        assert address(small) == here


def test_who_finds_none_free_waits_and_there_are_never_more() -> None:
    """A second one for the one time that two were needed at once would stay for good: found by the soak."""
    buffers, lent, got = Buffers(2), threading.Barrier(3), threading.Event()
    go_on = threading.Event()
    addresses: list[int] = []

    def hold() -> None:
        with buffers.lend(1000) as one:
            addresses.append(address(one))
            lent.wait(10)
            go_on.wait(10)

    def third() -> None:
        with buffers.lend(1000) as one:
            addresses.append(address(one))
            got.set()

    holders = [threading.Thread(target=hold) for _ in range(2)]
    waiter = threading.Thread(target=third)
    for holder in holders:
        holder.start()
    lent.wait(10)
    waiter.start()
    assert not got.wait(0.1)
    go_on.set()
    for thread in (*holders, waiter):
        thread.join(10)
    assert got.is_set()
    assert len(set(addresses)) == 2
    assert len(buffers._free) == 2


def test_one_comes_back_where_the_body_fails() -> None:
    buffers = Buffers(1)
    with suppress(ZeroDivisionError), buffers.lend(10) as first:
        here = address(first)
        print(1 // (here - here))
    with buffers.lend(10) as second:
        assert address(second) == here


def test_pictures_encoded_by_many_threads_at_once_keep_their_own_pixels() -> None:
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (60 + 7 * number, 90, 3), dtype=np.uint8) for number in range(8)]
    wrong: list[int] = []

    def encode(number: int) -> None:
        mine = pictures[number]
        wrong.extend(number for _ in range(20) if not np.array_equal(decoded(encode_rgb(mine)), mine))

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
