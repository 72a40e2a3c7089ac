"""The engines that can be verified by name, and what opens each of them in its worker process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from engines.backend import BackendSpec, BundleError
from engines.bundle import Bundle

CPU: Final = "cpu"
CPU_FP16: Final = "cpu-fp16"
TENSORRT: Final = "tensorrt"
CHOICES: Final = (CPU, CPU_FP16, TENSORRT)
FP16_MODEL: Final = "model.fp16.onnx"
PREPARE_TIMEOUT_S: Final = 7200.0
"""For compiling a plan; a Jetson Orin Nano takes tens of minutes."""
_BUILD_NEEDS: Final = "onnx"
_BACKEND: Final = "engines.tensorrt.backend:open_backend"


class EngineMissing(Exception):
    """The engine asked for cannot be had on this machine; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Choice:
    """An engine: how its worker opens it, and what tells it from others in the record."""

    spec: BackendSpec
    about: dict[str, str]
    timed: BackendSpec | None = None
    """What to measure the latency on, where not on the engine itself."""
    failure: str | None = None
    """Why the engine may not be run at all: it was found wrong while it was got ready."""


def choose(
    name: str | None,
    bundle: Bundle,
    *,
    threads: int = 0,
    cache: Path | None = None,
    progress: Callable[[str, float | None], None] = lambda *_: None,
) -> Choice:
    """Find an engine of a bundle.

    Args:
        name: one of :data:`CHOICES`; None takes ``cpu-fp16`` where the bundle has an FP16 graph and the build stage
            is installed, else ``cpu``.
        bundle: the checked bundle.
        threads: CPU threads; 0 takes one for each core.
        cache: where compiled plans lie (``tensorrt`` only).
        progress: told what is being done, and which share of it, while a plan is compiled.

    Raises:
        BundleError: the bundle lacks the graph.
        EngineMissing: this machine lacks what the engine needs.
    """
    has_fp16 = FP16_MODEL in bundle.manifest.files
    can_round = find_spec(_BUILD_NEEDS) is not None
    name = name or (CPU_FP16 if has_fp16 and can_round else CPU)
    if name == CPU:
        spec = BackendSpec(name, "engines.onnx_cpu:open_backend", bundle.folder, {"threads": threads})
        return Choice(spec, {"file": bundle.model_path.name, "file_sha256": bundle.model_sha256})
    if name == CPU_FP16:
        if not has_fp16:
            raise BundleError(
                f"{bundle.folder / FP16_MODEL}: the manifest lists no such file; export the bundle again, or take"
                f" --backend {CPU}"
            )
        if not can_round:
            raise EngineMissing(
                f"{CPU_FP16} carries out an FP16 graph's roundings, for which {_BUILD_NEEDS} is missing; install it"
                " with: pip install 'dermascan-edge[build]'"
            )
        options = {"file": FP16_MODEL, "threads": threads}
        # Named, not imported: the build stage is no part of a device, and this engine is for those who export.
        spec = BackendSpec(name, "build.rounded_fp16:open_backend", bundle.folder, options)
        about = {"file": FP16_MODEL, "file_sha256": bundle.manifest.files[FP16_MODEL], "rounding": "as on tensor cores"}
        return Choice(spec, about, choose(CPU, bundle, threads=threads).spec)
    return _tensorrt(bundle, cache, progress)


def _tensorrt(bundle: Bundle, cache: Path | None, progress: Callable[[str, float | None], None]) -> Choice:
    """The plan for this device, found or compiled, and checked at its first load, by the same child as the agent's."""
    from engines.tensorrt.preparation import Failed, Order, Preparation

    if cache is None:
        raise EngineMissing("where are compiled plans kept? Name the agent's cache, state_dir/cache, with --cache DIR")
    order = Order(bundle.folder, bundle.manifest_sha256, cache.absolute())
    outcome = Preparation(order).wait(PREPARE_TIMEOUT_S, progress)
    if isinstance(outcome, Failed) and outcome.anew and outcome.soon:  # an old plan is wrong: a new one may be right
        outcome = Preparation(replace(order, anew=True)).wait(PREPARE_TIMEOUT_S, progress)
    if isinstance(outcome, Failed):
        if not outcome.anew:
            raise EngineMissing(outcome.why)
        return Choice(BackendSpec(TENSORRT, _BACKEND, bundle.folder), {}, failure=outcome.why)
    return Choice(BackendSpec(TENSORRT, _BACKEND, bundle.folder, outcome.options), {"plan": outcome.what})
