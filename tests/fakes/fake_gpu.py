"""A pretended card, behind the fakes of pycuda, cuda-bindings and TensorRT: memory, streams that run late, recordings.

What a stream is asked is done when it is waited for, not before, so that code which does not wait reads old numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


class CardError(Exception):
    """The card was used in a way that crashes or poisons a real one."""


@dataclass
class Stream:
    """Work in order; while it records, work goes into the recording and is not done."""

    handle: int
    waiting: list[Callable[[], None]] = field(default_factory=list)
    recording: list[Callable[[], None]] | None = None

    def add(self, work: Callable[[], None]) -> None:
        (self.waiting if self.recording is None else self.recording).append(work)


@dataclass
class Card:
    """One card's state. ``log`` names what was asked of it, in order."""

    memory: dict[int, np.ndarray] = field(default_factory=dict)
    host: dict[int, np.ndarray] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    retained: int = 0
    current: int = 0
    log: list[str] = field(default_factory=list)
    fail: dict[str, Exception] = field(default_factory=dict)
    """By name of a call: what it raises, once."""
    codes: dict[str, int] = field(default_factory=dict)
    """By name of a driver function: the error code it gives."""
    lost_work: bool = False
    """Kernels silently do nothing."""
    probed: bool = False
    """Whether the driver was asked for a GPU before anything else."""
    handles: int = 0

    def check(self, call: str) -> None:
        """Every call that needs a context begins with this."""
        self.log.append(call)
        if self.current == 0:
            raise CardError(f"{call}: no context is current")
        if call in self.fail:
            raise self.fail.pop(call)

    def allocate(self, size: int) -> int:
        block = np.full(size, 0xAB, np.uint8)
        self.memory[block.ctypes.data] = block
        return block.ctypes.data

    def allocate_host(self, size: int) -> np.ndarray:
        block = np.full(size, 0xCD, np.uint8)
        self.host[block.ctypes.data] = block
        return block

    def seen_by_gpu(self, address: int, size: int) -> None:
        """Refuse addresses that are not the card's."""
        for start, block in (self.memory | self.host).items():
            if start <= address and address + size <= start + len(block):
                return
        raise CardError(f"illegal address: {size} bytes at {address:#x}")

    def view(self, address: int, count: int) -> np.ndarray:
        """``count`` float32 of the card's memory, as a kernel sees them."""
        self.seen_by_gpu(address, count * 4)
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))

    def new_handle(self) -> int:
        self.handles += 1
        return 0x5000 + self.handles

    def new_stream(self) -> Stream:
        stream = Stream(self.new_handle())
        self.streams[stream.handle] = stream
        return stream

    def wait(self, stream: Stream) -> None:
        if stream.recording is not None:
            raise CardError("a recording stream was waited for")
        work, stream.waiting = stream.waiting, []
        for step in work:
            step()

    @property
    def leaks(self) -> list[str]:
        """What was not given back."""
        found = [f"{len(self.memory)} device blocks"] if self.memory else []
        found += [f"{len(self.host)} page-locked blocks"] if self.host else []
        found += [f"{len(self.graphs)} graphs"] if self.graphs else []
        found += [f"{self.retained} contexts retained"] if self.retained else []
        return found + ([f"{self.current} contexts current"] if self.current else [])


CARD = Card()
"""The card of this process; :func:`reset` gives a new one."""


def reset() -> Card:
    """Empty the card, in place."""
    CARD.__init__()  # type: ignore[misc]
    return CARD
