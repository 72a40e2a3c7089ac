"""Puts the fakes where the backend imports its libraries from, with a probe that finds the pretended card.

Child processes are told by two environment variables: ``PRETENDED_NO_GPU`` names a file that hides the card while it
exists; ``PRETENDED_PLAN`` names a file with the arguments of ``fake_tensorrt.make_plan``, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from engines.bundle import Bundle
from engines.tensorrt import gpu
from engines.tensorrt.order import CompileOrder, plan_key
from engines.tensorrt.plans import Plan, PlanError, compile_lock, find_plan, write_plan
from engines.tensorrt.versions import TensorRT
from engines.verification.views import views as all_views
from tests.fakes import fake_cuda_bindings, fake_pycuda, fake_tensorrt
from tests.fakes.fake_gpu import CARD, Card, reset

GPU = gpu.Gpu("Pretended T4", (7, 5), 16 << 30, "580.65.06", cuda=(13, 0))


def tensorrt() -> TensorRT:
    """The fake, as the real one is described."""
    return TensorRT(
        module=fake_tensorrt,
        product="tensorrt",
        version=fake_tensorrt.__version__,
        release=(10, 13, 3, 9),
        strong=True,
        weak=True,
        explicit_batch=False,
        old_parser=False,
        timing_cache=False,
        progress=False,
        targets=False,
    )


def probe(**_: Any) -> gpu.Gpu:
    """The card, unless it is hidden."""
    CARD.log.append("probe")
    hidden = os.environ.get("PRETENDED_NO_GPU")
    if hidden and Path(hidden).exists():
        raise gpu.NoGpu("the GPU cannot be used: the driver sees no GPU (pretended)")
    CARD.probed = True
    return GPU


def compile_plan(
    bundle: Bundle, order: CompileOrder, progress: Any = None, *, cache: Path, force: bool = False, **_: Any
) -> Plan:
    """As the real one, but for what is compiled."""
    key = plan_key(bundle, order, tensorrt=tensorrt(), gpu=GPU)
    told = json.loads(Path(os.environ["PRETENDED_PLAN"]).read_text())
    if "error" in told:
        raise PlanError(told["error"])
    if told.get("die"):
        os.kill(os.getpid(), told["die"])
    if told.get("hang"):
        time.sleep(3600)
    with compile_lock(cache):
        if not force and (found := find_plan(cache, key)) is not None:
            return found
        progress("building: pretending", 0.5)
        data = fake_tensorrt.make_plan(size=224, model=str(bundle.model_path), max_batch=order.max_batch, **told)
        return write_plan(cache, key, data, build_seconds=1.0, built_at="2025-01-01T00:00:00+00:00")


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


def attributes() -> dict[str, Any]:
    """What else is replaced, by its path."""
    return {
        "engines.verification.first.views": lambda images: all_views(images)[:2],  # for speed: two of sixteen
        "engines.tensorrt.gpu.probe": probe,
        "engines.tensorrt.backend.find_tensorrt": tensorrt,
        "engines.tensorrt.builder.compile_plan": compile_plan,
    }


def install(*, graphs: bool = True) -> Card:
    """Pretend for the rest of this process (a child; tests in the first process use the fixture ``card``)."""
    import importlib

    sys.modules.update(modules(graphs=graphs))  # type: ignore[arg-type]
    for path, value in attributes().items():
        module, _, name = path.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    return reset()


def open_backend(bundle: Path, **options: Any) -> Any:
    """The real factory on the pretended card: for worker processes, as ``.../pretended_gpu.py:open_backend``."""
    install()
    from engines.tensorrt.backend import open_backend as real

    return real(bundle, **options)


if __name__ == "__main__":  # the real child process on the pretended card
    from engines.tensorrt import prepare

    install()
    prepare._NICENESS = 0  # tests wait for it, on a machine that may have other work
    prepare.main()
