"""pycuda.driver as far as the backend uses it, on the pretended card. Names and arguments are pycuda 2026.1's."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tests.fakes.fake_gpu import CARD, CardError

NAN_BITS = 0x7FC00000


class Error(Exception):
    """As pycuda's: the base of what its calls raise."""


class LogicError(Error):
    """Wrong use."""


class LaunchError(Error):
    """What a poisoned context gives from then on."""


class host_alloc_flags:  # noqa: N801 - pycuda's name
    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


def init(flags: int = 0) -> None:
    CARD.log.append("init")


class Context:
    def push(self) -> None:
        CARD.current += 1

    @staticmethod
    def pop() -> None:
        if CARD.current == 0:
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
        CARD.current -= 1

    def detach(self) -> None:
        CARD.retained -= 1


class Device:
    def __init__(self, ordinal: int) -> None:
        if "init" not in CARD.log:
            raise LogicError("cuDeviceGet failed: initialization error")
        if ordinal != 0:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    def retain_primary_context(self) -> Context:
        if "retain_primary_context" in CARD.fail:
            raise CARD.fail.pop("retain_primary_context")
        CARD.retained += 1
        return Context()


class Stream:
    def __init__(self, flags: int = 0) -> None:
        CARD.check("Stream")
        self._stream = CARD.new_stream()
        self.handle = self._stream.handle

    def synchronize(self) -> Stream:
        CARD.check("synchronize")
        CARD.wait(self._stream)
        return self


class Event:
    def __init__(self, flags: int = 0) -> None:
        CARD.check("Event")
        self._at = 0.0

    def record(self, stream: Stream | None = None) -> Event:
        assert stream is not None
        stream._stream.add(self._note)
        self._stream = stream
        return self

    def _note(self) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> Event:
        CARD.wait(self._stream._stream)
        return self

    def time_till(self, event: Event) -> float:
        return (event._at - self._at) * 1e3


class DeviceAllocation:
    def __init__(self, address: int) -> None:
        self._address = address

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        CARD.check("mem_free")
        del CARD.memory[self._address]


class PagelockedHostAllocation:
    """The base of an array from :func:`pagelocked_empty`, which takes its memory from it."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, mem_flags: int) -> None:
        self._block = CARD.allocate_host(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        self._mapped = bool(mem_flags & host_alloc_flags.DEVICEMAP)
        self.__array_interface__ = self._block.view(dtype).reshape(shape).__array_interface__

    def get_device_pointer(self) -> int:
        if not self._mapped:
            raise LogicError("cuMemHostGetDevicePointer failed: invalid argument")
        return int(self._block.ctypes.data)

    def free(self) -> None:
        CARD.check("host_free")
        del CARD.host[self._block.ctypes.data]


def mem_alloc(bytes: int) -> DeviceAllocation:  # noqa: A002 - pycuda's name
    CARD.check("mem_alloc")
    return DeviceAllocation(CARD.allocate(bytes))


def pagelocked_empty(shape: tuple[int, ...], dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    CARD.check("pagelocked_empty")
    return np.asarray(PagelockedHostAllocation(shape, dtype, mem_flags))


def _page_locked(array: np.ndarray) -> None:
    start, size = array.ctypes.data, array.nbytes
    if not array.flags.c_contiguous:
        raise LogicError("ndarray is not contiguous")
    if not any(base <= start and start + size <= base + len(block) for base, block in CARD.host.items()):
        raise CardError("an asynchronous copy of memory that is not page-locked")


def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream | None = None) -> None:
    CARD.check("memcpy_htod_async")
    _page_locked(src)
    assert stream is not None, "the default stream cannot be recorded"
    stream._stream.add(lambda: np.copyto(CARD.view(dest, src.size), src.reshape(-1)))


def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream | None = None) -> None:
    CARD.check("memcpy_dtoh_async")
    _page_locked(dest)
    assert stream is not None, "the default stream cannot be recorded"
    stream._stream.add(lambda: np.copyto(dest.reshape(-1), CARD.view(src, dest.size)))


def memset_d32_async(dest: int, data: int, size: int, stream: Stream | None = None) -> None:
    CARD.check("memset_d32_async")
    assert stream is not None, "the default stream cannot be recorded"
    value = np.array(data, np.uint32).view(np.float32)
    stream._stream.add(lambda: CARD.view(dest, size).fill(value))
