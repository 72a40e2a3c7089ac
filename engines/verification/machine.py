"""What a verification ran on: versions of the software that computes, and the hardware, as far as the system tells."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_PACKAGES: Final = (
    "dermascan-edge",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx_cu13_bindings",
    "pycuda",
    "cuda-bindings",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that take part in an answer; nothing is imported for it."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").split("\n")[0].strip("\0 ")
    except OSError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def hardware() -> dict[str, str]:
    """Processor, cores that this process may use, memory, and the board's name where a device tree has one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory_gib": f"{memory / 2**30:.1f}",
        "kernel": platform.release(),
    }
    if board := _first_line("/proc/device-tree/model"):
        found["board"] = board
    return found
