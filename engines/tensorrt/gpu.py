"""Which GPU is here, asked of the driver's own library before anything that would crash without one (F13).

``python -m engines.tensorrt.gpu`` prints it as JSON, or says in one sentence why there is none (exit status 3).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

EXIT_NO_GPU: Final = 3
_LIBRARY: Final = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``_MINOR`` of cuda.h."""
_NODES: Final = ("nvidiactl", "nvidia[0-9]*", "nvidia-uvm", "nvmap", "nvhost-gpu", "nvhost-ctrl-gpu", "nvgpu/igpu0/*")
"""Device nodes of desktop and server cards, then of Tegra."""
_REASONS: Final = {
    2: "the GPU has no memory left: end other programs that use it",
    34: f"the {_LIBRARY} found is the CUDA toolkit's stub: take its stubs folder out of LD_LIBRARY_PATH",
    46: "another process has the GPU for itself: end it, or set the card's compute mode to default",
    100: "the driver sees no GPU: look for the card with lspci and for the driver's complaints with dmesg",
    102: "the virtual GPU is not licensed",
    214: "the GPU reports a memory error it cannot correct (ECC): restart the machine; if it returns, replace it",
    304: "the operating system refused the driver a call: start the service with access to the NVIDIA device nodes",
    802: "the GPU is not ready yet: its fabric manager or firmware is still starting",
    803: "the driver's library and its kernel module are of different versions: restart the machine after the update",
    804: "the CUDA compatibility library does not support this card: remove the cuda-compat package",
    999: "the driver did not say why: see dmesg; often its module nvidia-uvm is not loaded (nvidia-modprobe -u)",
}


class NoGpu(Exception):
    """There is no GPU to use. The message says why and what to do."""


@dataclass(frozen=True)
class Gpu:
    """The GPU that CUDA shows first (``CUDA_VISIBLE_DEVICES`` is honoured)."""

    name: str
    """As the driver tells it; on Tegra, whose boards all share one name, as the device tree does."""
    compute_capability: tuple[int, int]
    memory_bytes: int
    """The card's own; on Tegra the memory that GPU and CPU share."""
    driver: str
    """The driver's version, or L4T's on Tegra."""
    tegra: bool = False
    cuda: tuple[int, int] = (0, 0)
    """The newest CUDA that the driver supports."""


def _load(name: str) -> Any:
    return ctypes.CDLL(name)


def _open_library(load: Callable[[str], Any]) -> Any:
    try:
        library = load(_LIBRARY)
        library.cuInit.argtypes = [ctypes.c_uint]
        library.cuDriverGetVersion.argtypes = [ctypes.c_void_p]
        library.cuDeviceGetCount.argtypes = [ctypes.c_void_p]
        library.cuDeviceGet.argtypes = [ctypes.c_void_p, ctypes.c_int]
        library.cuDeviceGetName.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
        library.cuDeviceGetAttribute.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        library.cuDeviceTotalMem_v2.argtypes = [ctypes.c_void_p, ctypes.c_int]
    except OSError as error:
        if "cannot open shared object file: No such file" in str(error):
            raise NoGpu(
                f"no NVIDIA driver is installed ({_LIBRARY} was not found); install it, or take tensorrt out of"
                " inference.ladder"
            ) from error
        raise NoGpu(f"the NVIDIA driver's library cannot be loaded ({error}); install the driver again") from error
    except AttributeError as error:
        raise NoGpu(f"{_LIBRARY} is not CUDA's library ({error}); install the NVIDIA driver again") from error
    return library


def _closed_node(root: Path) -> Path | None:
    """A device node of the GPU that exists and may not be opened by this process (its rights, or its sandbox)."""
    for pattern in _NODES:
        for node in sorted((root / "dev").glob(pattern)):
            try:
                os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
            except PermissionError:
                return node
            except OSError:
                continue
    return None


def _why(code: int, root: Path) -> str:
    """A CUDA error code in words; a device node that is closed to us explains more than the code does."""
    if code in (100, 304, 999) and (node := _closed_node(root)) is not None:
        return (
            f"this process may not open {node}: put its user into the group that owns it (video on Jetson), and allow"
            " the device in the service's sandbox"
        )
    return _REASONS.get(code, "see cuda.h for the code, and dmesg")


def _ask(library: Any, root: Path, function: str, *arguments: object) -> None:
    code = getattr(library, function)(*arguments)
    if code:
        raise NoGpu(f"the GPU cannot be used: {_why(code, root)} ({function} gave error {code})")


def _text(path: Path) -> str:
    """A small file of the kernel's, or nothing; device-tree strings end in NUL."""
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _driver(root: Path, cuda: tuple[int, int]) -> str:
    if version := _text(root / "sys/module/nvidia/version"):
        return version
    l4t = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return f"L4T {l4t[1]}.{l4t[2]}" if l4t else f"CUDA {cuda[0]}.{cuda[1]}"


def _shared_memory(root: Path) -> int:
    """Memory of the board in bytes, from ``/proc/meminfo``; 0 where it is not told."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def probe(*, needs_cuda: int | None = None, load: Callable[[str], Any] = _load, root: Path = Path("/")) -> Gpu:
    """Ask the driver for its first GPU. Never crashes where there is none; leaves CUDA initialised, so fork no more.

    Args:
        needs_cuda: the major version of CUDA that the TensorRT here was made for, if known.
        load: opens a shared library.
        root: where ``/dev``, ``/proc``, ``/sys`` and ``/etc`` are.

    Raises:
        NoGpu: no driver, a driver too old, no device, no permission, or what the driver says.
    """
    library = _open_library(load)
    number = ctypes.c_int()
    _ask(library, root, "cuDriverGetVersion", ctypes.byref(number))
    cuda = (number.value // 1000, number.value % 1000 // 10)
    if needs_cuda is not None and cuda[0] < needs_cuda:
        raise NoGpu(
            f"the NVIDIA driver is too old: it supports CUDA {cuda[0]}.{cuda[1]}, and the TensorRT installed here was"
            f" made for CUDA {needs_cuda}; update the driver, or install a TensorRT for CUDA {cuda[0]}"
        )
    _ask(library, root, "cuInit", 0)
    _ask(library, root, "cuDeviceGetCount", ctypes.byref(number))
    if number.value == 0:
        raise NoGpu(f"the GPU cannot be used: {_why(100, root)}")
    device = ctypes.c_int()
    _ask(library, root, "cuDeviceGet", ctypes.byref(device), 0)
    label = ctypes.create_string_buffer(256)
    _ask(library, root, "cuDeviceGetName", label, len(label), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        _ask(library, root, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        capability.append(number.value)
    memory = ctypes.c_size_t()
    _ask(library, root, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    name, tegra = label.value.decode(errors="replace"), "nvidia,tegra" in _text(root / "proc/device-tree/compatible")
    return Gpu(
        name=(_text(root / "proc/device-tree/model") if tegra else "") or name,
        compute_capability=(capability[0], capability[1]),
        memory_bytes=(_shared_memory(root) if tegra else 0) or memory.value,
        driver=_driver(root, cuda),
        tegra=tegra,
        cuda=cuda,
    )


def probe_apart(timeout_s: float = 20.0) -> Gpu:
    """The same, asked in a process of its own: for those who must not hold a CUDA driver themselves.

    Raises:
        NoGpu: there is none, or the driver crashed or hung.
    """
    command = [sys.executable, "-m", "engines.tensorrt.gpu"]
    root = Path(__file__).resolve().parent.parent.parent
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=root, check=False)
    except subprocess.TimeoutExpired as error:
        raise NoGpu(f"the NVIDIA driver gave no answer within {timeout_s:.0f} s; see dmesg") from error
    if done.returncode < 0:
        raise NoGpu(f"asking the NVIDIA driver ended in signal {-done.returncode}; install the driver again")
    try:
        told = json.loads(done.stdout)
        if "no_gpu" in told:
            raise NoGpu(told["no_gpu"])
        for pair in ("compute_capability", "cuda"):
            told[pair] = tuple(told[pair])
        return Gpu(**told)
    except (ValueError, TypeError, KeyError) as error:
        raise NoGpu(f"asking the NVIDIA driver failed ({' '.join(done.stderr.split())[-300:]})") from error


def main() -> int:
    """Print the GPU as JSON; exit status 0, or 3 where there is none."""
    try:
        told: dict[str, object] = asdict(probe())
    except NoGpu as error:
        told = {"no_gpu": str(error)}
    print(json.dumps(told))
    return EXIT_NO_GPU if "no_gpu" in told else 0


if __name__ == "__main__":
    sys.exit(main())
