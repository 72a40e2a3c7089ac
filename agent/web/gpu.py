"""How busy the GPUs are: NVIDIA's management library where it is, the kernel's own figure on a Jetson, else nothing."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LIBRARY: Final = "libnvidia-ml.so.1"
_JETSON: Final = (Path("/sys/devices/gpu.0/load"), Path("/sys/devices/platform/gpu.0/load"))
"""In tenths of a percent. A Jetson's GPU has no memory of its own."""
_lock = threading.Lock()


@dataclass(frozen=True)
class Gpu:
    """A GPU as it is now."""

    index: int
    name: str
    use: float
    """Share of the last moments in which it worked."""
    used_bytes: int
    total_bytes: int


class _Use(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def look() -> list[Gpu]:
    """Every GPU; none where there is none, or where nobody tells. Never raises."""
    with _lock:
        try:
            return _nvml() or _jetson()
        except (OSError, AttributeError, ValueError):
            return _jetson()


def _nvml() -> list[Gpu]:
    library = ctypes.CDLL(_LIBRARY)
    if library.nvmlInit_v2() != 0:
        return []
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        return [one for index in range(count.value) if (one := _one(library, index)) is not None]
    finally:
        library.nvmlShutdown()


def _one(library: ctypes.CDLL, index: int) -> Gpu | None:
    device, use, memory = ctypes.c_void_p(), _Use(), _Memory()
    name = ctypes.create_string_buffer(96)
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
        return None
    if library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(use)) != 0:
        use.gpu = 0
    if library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != 0:
        return None
    if library.nvmlDeviceGetName(device, name, len(name)) != 0:
        name.value = b"GPU"
    return Gpu(index, name.value.decode("utf-8", "replace"), use.gpu / 100.0, memory.used, memory.total)


def _jetson() -> list[Gpu]:
    for path in _JETSON:
        try:
            return [Gpu(0, "Tegra", int(path.read_text(encoding="ascii")) / 1000.0, 0, 0)]
        except (OSError, ValueError):
            continue
    return []
