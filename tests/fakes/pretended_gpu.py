"""Puts the fakes where the backend imports its libraries from, with a probe that finds the pretended card."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from engines.tensorrt import gpu
from tests.fakes import fake_cuda_bindings, fake_pycuda, fake_tensorrt
from tests.fakes.fake_gpu import CARD, Card, reset

GPU = gpu.Gpu("Pretended T4", (7, 5), 16 << 30, "580.65.06", cuda=(13, 0))


def probe(**_: Any) -> gpu.Gpu:
    CARD.probed = True
    return GPU


def _package(name: str, **children: object) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    module.__dict__.update(children)
    return module


def modules(*, graphs: bool = True) -> dict[str, ModuleType | None]:
    """What ``sys.modules`` is to hold; ``graphs`` False: cuda-bindings is not installed."""
    bindings = _package("cuda.bindings", driver=fake_cuda_bindings)
    return {
        "tensorrt": fake_tensorrt,
        "pycuda": _package("pycuda", driver=fake_pycuda),
        "pycuda.driver": fake_pycuda,
        "cuda": _package("cuda", bindings=bindings) if graphs else None,
        "cuda.bindings": bindings if graphs else None,
        "cuda.bindings.driver": fake_cuda_bindings if graphs else None,
        "cuda.cuda": None,
    }


def install(*, graphs: bool = True) -> Card:
    """Pretend for the rest of this process (for child processes; tests in this one use the fixture ``card``)."""
    sys.modules.update(modules(graphs=graphs))  # type: ignore[arg-type]
    gpu.probe = probe
    return reset()
