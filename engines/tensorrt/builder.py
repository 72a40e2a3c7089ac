"""Compiles a bundle's graph into a plan for the GPU of this device, with TensorRT's own parser and builder.

Only on the device and only from a checked bundle (F14, F15). Plans hold no host code: ``VERSION_COMPATIBLE`` is never
set, so that ``engine_host_code_allowed`` can stay False where plans are run.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from engines.bundle import Bundle
from engines.tensorrt.gpu import Gpu
from engines.tensorrt.listening import Heard, Progress, clean, make_logger, make_monitor
from engines.tensorrt.network import INPUT, Parsed, check_precisions, hold_in_single, parse_graph
from engines.tensorrt.opset17 import to_opset_17
from engines.tensorrt.order import CompileOrder, Recipe, choose_recipe, plan_key
from engines.tensorrt.plan_key import PlanKey
from engines.tensorrt.plans import Plan, PlanError, compile_lock, find_plan, write_plan
from engines.tensorrt.timing import TimingCache
from engines.tensorrt.versions import TensorRT

__all__ = ["CompileOrder", "compile_plan", "plan_key"]

log = logging.getLogger(__name__)

_TORCH_MAKER: Final = ("build.via_torch_tensorrt", "make_plan")
_NOTES: Final = 5
_loggers: list[Any] = []
"""TensorRT keeps a pointer to the first logger it was given, for as long as the process lives."""


def compile_plan(
    bundle: Bundle,
    order: CompileOrder,
    progress: Progress = lambda *_: None,
    *,
    cache: Path,
    tensorrt: TensorRT,
    gpu: Gpu,
    device: str | None = None,
    force: bool = False,
    verbose: bool = False,
) -> Plan:
    """The ordered plan: from the cache, or compiled now, which takes from seconds to many minutes.

    TensorRT is native code that may crash: call this in a process that nothing else depends on (see ``apart``).

    Args:
        bundle: a bundle whose signature and hashes were checked.
        order: what is to be compiled.
        progress: told of what is being done.
        cache: the device's cache folder.
        tensorrt: the TensorRT that compiles and will run the plan.
        gpu: the GPU of this device; TensorRT crashes where there is none, so have it probed before.
        device: tells this device from others; None asks the system.
        force: compile even where the cache has the plan.
        verbose: pass all that TensorRT says on to the log.

    Raises:
        PlanError: it cannot be compiled or kept; earlier plans are untouched.
    """
    key = plan_key(bundle, order, tensorrt=tensorrt, gpu=gpu, device=device)
    with compile_lock(cache, lambda: progress("waiting for another compilation to end", None)):
        if not force and (found := _kept(cache, key)) is not None:
            return found
        started = time.monotonic()
        progress("reading the graph", None)
        path = bundle.folder / key.source
        graph = _read_graph(path, key.source_sha256)
        made = _Job(bundle, order, choose_recipe(bundle, order, tensorrt), tensorrt, gpu, progress, cache, verbose)
        data, notes = made.run(graph, path)
        progress("writing the plan", None)
        return write_plan(
            cache,
            key,
            data,
            build_seconds=time.monotonic() - started,
            built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            notes=tuple(dict.fromkeys(notes))[:_NOTES],
        )


def _kept(cache: Path, key: PlanKey) -> Plan | None:
    try:
        return find_plan(cache, key)
    except PlanError as error:
        log.warning("%s; it is compiled anew", error)
        return None


def _read_graph(path: Path, sha256: str) -> bytes:
    """The graph's bytes, checked: these very bytes are parsed, so that nothing is exchanged in between (F15)."""
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}); install the bundle again") from error
    if hashlib.sha256(graph).hexdigest() != sha256:
        raise PlanError(f"{path}: the file was changed or damaged since it was signed; install the bundle again")
    return graph


@dataclass(frozen=True)
class _Job:
    """One compilation."""

    bundle: Bundle
    order: CompileOrder
    recipe: Recipe
    tensorrt: TensorRT
    gpu: Gpu
    progress: Progress
    cache: Path
    verbose: bool

    def run(self, graph: bytes, path: Path) -> tuple[bytes | memoryview, list[str]]:
        """The plan's bytes, and what the builder warned of."""
        heard = Heard()
        try:
            if self.order.via == "torch-tensorrt":
                return self._via_torch(graph, path), []
            return self._via_onnx(graph, path, heard)
        except (RuntimeError, TypeError, ValueError, AttributeError, MemoryError) as error:
            # What pybind11 raises: a factory that gave nothing, a name that this version does not have.
            why = heard.why() if heard.errors else clean(f"{type(error).__name__}: {error}")
            raise PlanError(f"{path}: {self.tensorrt.label} failed: {why}") from error

    def _via_onnx(self, graph: bytes, path: Path, heard: Heard) -> tuple[memoryview, list[str]]:
        trt = self.tensorrt.module
        logger = make_logger(trt, heard, verbose=self.verbose)
        _loggers.append(logger)
        if self.tensorrt.old_parser:
            graph = to_opset_17(graph, name=str(path))
        builder = trt.Builder(logger)
        self.progress("parsing the graph", None)
        parsed = parse_graph(
            self.tensorrt,
            builder,
            logger,
            graph,
            name=str(path),
            size=self.bundle.manifest.input.size,
            strong=self.recipe.strong,
            heard=heard,
        )
        config = self._config(builder, parsed, str(path), heard)
        timing = TimingCache(self.cache, self.tensorrt, self.gpu)
        timing.attach(config)
        self.progress("building", None)
        plan = builder.build_serialized_network(parsed.network, config)
        if plan is None or plan.nbytes == 0:
            raise PlanError(f"{path}: {self.tensorrt.label} built no plan: {heard.why()}")
        timing.save(config)
        return memoryview(plan).cast("B"), [*parsed.notes, *(clean(text) for text in heard.warnings)]

    def _config(self, builder: Any, parsed: Parsed, name: str, heard: Heard) -> Any:
        """The builder's settings, each checked where TensorRT tells."""
        trt = self.tensorrt.module
        config = builder.create_builder_config()
        if config is None:
            raise PlanError(f"{name}: {self.tensorrt.label} made no builder configuration: {heard.why()}")
        config.clear_flag(trt.BuilderFlag.TF32)  # FP32 is meant where FP32 is written
        config.builder_optimization_level = self.order.optimisation_level
        workspace = self.order.workspace_bytes or (self.gpu.memory_bytes // 4 if self.gpu.tegra else None)
        if workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
        if self.tensorrt.progress:
            config.progress_monitor = make_monitor(trt, lambda phase, share: self.progress(f"building: {phase}", share))
        self._set_precisions(builder, config, parsed, name)
        self._set_shapes(builder, config, name, heard)
        if self.tensorrt.targets:
            self._set_target(config, name)
        return config

    def _set_precisions(self, builder: Any, config: Any, parsed: Parsed, name: str) -> None:
        if not self.recipe.half:
            return
        if self.recipe.strong:
            check_precisions(self.tensorrt, parsed.network, name)
            return
        flags = self.tensorrt.module.BuilderFlag
        if not builder.platform_has_fast_fp16:
            raise PlanError(f"{name}: {self.gpu.name} has no fast FP16; compile with --precision fp32")
        config.set_flag(flags.FP16)
        config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
        hold_in_single(self.tensorrt, parsed.network, name)

    def _set_shapes(self, builder: Any, config: Any, name: str, heard: Heard) -> None:
        size = self.bundle.manifest.input.size
        profile = builder.create_optimization_profile()
        # Tuned for one picture, which is what a clinic sends; a visit's several lesions are the exception.
        profile.set_shape(INPUT, *((batch, 3, size, size) for batch in (1, 1, self.order.max_batch)))
        if not profile or config.add_optimization_profile(profile) < 0:
            raise PlanError(
                f"{name}: {self.tensorrt.label} refuses batches of 1 to {self.order.max_batch}: {heard.why()}"
            )

    def _set_target(self, config: Any, name: str) -> None:
        """TensorRT-RTX builds without looking at the GPU, for the one it is told of."""
        wanted = "SM{}{}".format(*self.gpu.compute_capability)
        known = self.tensorrt.module.ComputeCapability.__members__
        if wanted not in known:
            have = ", ".join(sorted(key for key in known if key.startswith("SM")))
            raise PlanError(
                f"{name}: {self.tensorrt.label} builds for {have}, and {self.gpu.name} is {wanted}; install the"
                " ordinary TensorRT"
            )
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(known[wanted], 0):
            raise PlanError(f"{name}: {self.tensorrt.label} does not build for {wanted}; install the ordinary TensorRT")

    def _via_torch(self, graph: bytes, path: Path) -> bytes:
        """By torch-tensorrt, on hosts that have the build stage and torch."""
        module, function = _TORCH_MAKER
        try:
            make: Callable[..., bytes] = getattr(importlib.import_module(module), function)
        except ImportError as error:
            raise PlanError(
                f"--via torch-tensorrt needs the build stage, which is not installed here ({error}); compile with --via"
                " onnx, or install it with: pip install 'dermascan-edge[build]' torch-tensorrt"
            ) from error
        self.progress("building with torch-tensorrt", None)
        return make(
            path,
            graph,
            half=self.recipe.half,
            max_batch=self.order.max_batch,
            workspace_bytes=self.order.workspace_bytes or 0,
            optimisation_level=self.order.optimisation_level,
            timing_cache=TimingCache(self.cache, self.tensorrt, self.gpu).path.with_suffix(".torch.cache"),
        )
