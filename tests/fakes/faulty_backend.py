"""A backend that goes wrong on schedule, run in a real worker process (F12, F23).

Runs are numbered from 1 over all processes of a test, golden images included: a counter file remembers across respawns.
A fault may "stay" until its process ends, as a poisoned CUDA context does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.backend import Backend, BackendSpec, Images, Output

if TYPE_CHECKING:
    from engines.golden import GoldenCheck  # in the agent's process only: the worker starts quicker without

SIZE = 32
"""Side of the pictures that the fabricated model takes."""


def picture(seed: int) -> Images:
    """An input for the fabricated model, ``[1, 3, SIZE, SIZE]``."""
    return np.random.default_rng(seed).standard_normal((1, 3, SIZE, SIZE), dtype=np.float32)


def right_answer(images: Images) -> Output:
    """What the fabricated model answers: another, reproducible answer for every picture."""
    seeds = [np.ascontiguousarray(image).view(np.uint32).reshape(-1)[:16] for image in images]
    scores = np.exp(3.0 * np.stack([np.random.default_rng(seed).random(7) for seed in seeds]))
    attention = np.stack([np.resize(np.abs(image), (14, 14)) for image in images]) / 1000
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    return Output(probabilities.astype(np.float32), attention.astype(np.float32))


def golden(seed: int = 0) -> GoldenCheck:
    """The fabricated model's self-test."""
    from engines.golden import GoldenCheck

    images = picture(seed)
    return GoldenCheck(images, tuple(float(p) for p in right_answer(images).probabilities[0]), 0.01)


def spec(folder: Path, faults: Mapping[str, str] | None = None, *, bundle: Path | None = None) -> BackendSpec:
    """A faulty backend that keeps its counters in ``folder``.

    Args:
        folder: an empty folder of the test's own.
        faults: run number to fault, see :func:`open_backend`.
        bundle: wrap the real CPU backend with this bundle, instead of the fabricated model.
    """
    options = {"folder": str(folder), "faults": dict(faults or {}), "real": bundle is not None}
    return BackendSpec("faulty", f"{Path(__file__).resolve()}:open_backend", bundle or folder, options)


def count(folder: Path, what: str) -> int:
    """How many ``"run"`` or ``"load"`` were counted so far."""
    path = folder / f"{what}.count"
    return path.stat().st_size if path.exists() else 0


def _count_up(folder: Path, what: str) -> int:
    with (folder / f"{what}.count").open("ab") as file:
        file.write(b".")
    return count(folder, what)


class FaultyBackend:
    """Right answers, but for the scheduled faults."""

    def __init__(self, folder: Path, faults: Mapping[str, str], real: Backend | None) -> None:
        self._folder, self._faults, self._real = folder, faults, real
        self._stays = ""
        self._leaked: list[bytearray] = []

    def run(self, images: Images) -> Output:
        number = _count_up(self._folder, "run")
        fault = self._stays or self._faults.get(str(number), "")
        if fault.startswith("stay:"):
            fault = self._stays = fault.removeprefix("stay:")
        self._disturb(fault)
        output = self._real.run(images) if self._real else right_answer(images)
        return self._spoil(output, fault)

    def _disturb(self, fault: str) -> None:
        """Faults of the process."""
        if fault == "raise":
            raise RuntimeError("CUDA error 700: an illegal memory access was encountered")
        if fault == "hang":
            time.sleep(3600)
        if fault == "hang_in_library":
            ctypes.PyDLL(None).sleep(3600)  # holds the interpreter's lock
        if fault == "exit":
            os._exit(7)
        if fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "leak":
            self._leaked.append(bytearray(b"x" * (64 << 20)))
        if fault == "print":
            print("a library's chatter", flush=True)
        if fault.startswith("slow:"):
            time.sleep(float(fault.removeprefix("slow:")))

    def _spoil(self, output: Output, fault: str) -> Output:
        """Faults of the numbers."""
        probabilities, attention = output.probabilities.copy(), output.attention.copy()
        if fault == "nan":
            probabilities[0, 0] = np.nan
        if fault == "nan_attention":
            attention[0, 0, 0] = np.nan
        if fault == "negative_attention":
            attention[0, 0, 0] = -0.1
        if fault == "not_summing":
            probabilities *= 0.9
        if fault == "outside":
            probabilities[0, :2] = (1.5, -0.5)
            probabilities[0, 2:] = 0.0
        if fault == "wrong":
            probabilities = np.roll(probabilities, 1, axis=1)
        if fault == "shape":
            probabilities = probabilities[:, :5]
        if fault == "empty":
            probabilities = probabilities[:0]
        if fault == "dtype":
            return Output(probabilities.astype(np.float64), attention)
        return Output(probabilities, attention)

    def close(self) -> None:
        (self._folder / "closed").touch()


def open_backend(bundle: Path, *, folder: str, faults: Mapping[str, str], real: bool) -> Backend:
    """Open the backend; faults under the keys ``"load:N"`` happen while the N-th process loads."""
    place = Path(folder)
    number = _count_up(place, "load")
    backend: Backend | None = None
    if real:
        from engines.onnx_cpu import open_backend as open_real

        backend = open_real(bundle, threads=1)
    faulty = FaultyBackend(place, faults, backend)
    faulty._disturb(faults.get(f"load:{number}", ""))
    sys.stdout.flush()
    return faulty
