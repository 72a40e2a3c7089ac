"""Memory and streams of the GPU through pycuda: the primary context, current only where asked for, on one thread.

TensorRT works in CUDA's runtime, whose context is the device's *primary* one. pycuda's ``autoinit`` and
``make_context`` make another, in which TensorRT's memory does not exist; so this retains the primary one. For those who
have just asked ``engines.tensorrt.gpu`` whether there is a GPU at all (F13).
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from engines.tensorrt.gpu import NoGpu

_NAN: Final = 0x7FC00000
"""The bits of a float32 that is not a number."""


def _import_pycuda() -> Any:
    try:
        import pycuda.driver
    except ImportError as error:
        raise NoGpu(f"pycuda cannot be imported ({error}); install dermascan-edge[tensorrt]") from error
    return pycuda.driver


class Buffer:
    """A float32 array in page-locked memory and its twin on the GPU, allocated once.

    Where GPU and CPU share their memory (Tegra) both are the same bytes, and nothing is copied.
    """

    def __init__(self, cuda: Any, shape: tuple[int, ...], *, unified: bool) -> None:
        flags = cuda.host_alloc_flags.DEVICEMAP if unified else 0
        self.host: NDArray[np.float32] = cuda.pagelocked_empty(shape, np.float32, mem_flags=flags)
        self._cuda = cuda
        self._pages = self.host.base
        self._device = None if unified else cuda.mem_alloc(self.host.nbytes)
        self.address = int(self._pages.get_device_pointer()) if self._device is None else int(self._device)
        """Where the GPU sees it."""

    def upload(self, rows: int, stream: Any) -> None:
        """Queue the copy of the first ``rows`` rows to the GPU."""
        if self._device is not None:
            self._cuda.memcpy_htod_async(self.address, self.host[:rows], stream)

    def download(self, rows: int, stream: Any) -> None:
        """Queue the copy of the first ``rows`` rows from the GPU."""
        if self._device is not None:
            self._cuda.memcpy_dtoh_async(self.host[:rows], self.address, stream)

    def spoil_device(self, rows: int, stream: Any) -> None:
        """Queue filling the first ``rows`` rows on the GPU with NaN: what is not written afterwards shows (F12)."""
        if self._device is not None:
            self._cuda.memset_d32_async(self.address, _NAN, self.host[:rows].size, stream)

    def spoil_host(self, rows: int) -> None:
        """Fill the first ``rows`` rows here with NaN."""
        self.host[:rows].fill(np.nan)

    def free(self) -> None:
        """Give both memories back; ``host`` must not be touched afterwards."""
        self.host = np.empty(0, np.float32)
        self._pages.free()
        if self._device is not None:
            self._device.free()


class Device:
    """The first GPU's primary context, current within ``with device:`` only. Used by the thread that made it."""

    def __init__(self, *, unified: bool = False) -> None:
        """Retain the context.

        Args:
            unified: GPU and CPU share their memory.

        Raises:
            NoGpu: pycuda is not there or cannot have the device.
        """
        self.driver = _import_pycuda()
        self.unified = unified
        self._thread = threading.get_ident()
        self._depth = 0
        try:
            self.driver.init()
            self._context = self.driver.Device(0).retain_primary_context()
        except self.driver.Error as error:
            raise NoGpu(f"the GPU cannot be used: {error}; look for other programs that hold it") from error

    def __enter__(self) -> Self:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a GPU's context is used on the thread that made it")
        if self._depth == 0:
            self._context.push()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._context.pop()

    def stream(self) -> Any:
        """A stream of its own; ``handle`` is its number, ``synchronize()`` waits for what was queued."""
        return self.driver.Stream()

    def buffer(self, shape: tuple[int, ...]) -> Buffer:
        """Page-locked memory of this shape with its twin on the GPU."""
        return Buffer(self.driver, shape, unified=self.unified)

    def memory(self, size: int) -> Any:
        """``size`` bytes on the GPU; ``int()`` of it is the address, ``free()`` gives it back."""
        return self.driver.mem_alloc(size)

    def close(self) -> None:
        """Let the context go; everything that was allocated in it must have been freed."""
        self._context.detach()
