"""TensorRT's part of the comparison: plans compiled here, with and without the attention output, graphs or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.backend import Images
from engines.tensorrt.backend import OUTPUTS
from engines.tensorrt.cuda import Device
from engines.tensorrt.gpu import Gpu
from engines.tensorrt.graphs import import_driver
from engines.tensorrt.listening import Heard, make_logger
from engines.tensorrt.network import INPUT
from engines.tensorrt.session import Session
from engines.tensorrt.versions import NoTensorRT, TensorRT

_WARM = 10


@dataclass(frozen=True)
class Ready:
    """A way to run the model, warmed up for one batch size."""

    engine_ms: Callable[[], float]
    """One run on what the GPU's memory holds, in milliseconds by the GPU's own clock."""
    call: Callable[[Images], NDArray[np.float32]]
    """Pictures in the host's memory to probabilities in the host's memory."""


Way = Callable[[int], Ready]
"""Makes it ready for a batch size."""


@dataclass(frozen=True)
class Built:
    """A plan's bytes, the outputs it has, and how long its compilation took."""

    plan: bytes
    outputs: tuple[str, ...]
    seconds: float


def build(tensorrt: TensorRT, gpu: Gpu, graph: Path, *, max_batch: int, size: int, attention: bool) -> Built:
    """Compile a strongly typed graph; without ``attention`` that output is taken off the network first.

    The agent's own way is ``engines.tensorrt.builder``, which takes no network without attention.
    """
    if not tensorrt.strong:
        raise NoTensorRT(f"{tensorrt.label} has no strongly typed networks; 10 or newer is needed here")
    trt, heard, started = tensorrt.module, Heard(), time.monotonic()
    builder = trt.Builder(logger := make_logger(trt, heard))
    kinds = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(kinds.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        raise RuntimeError(f"{graph}: {heard.why()}")
    for tensor in [network.get_output(index) for index in range(network.num_outputs)]:
        if tensor.name != OUTPUTS[0] and not attention:
            network.unmark_output(tensor)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape(INPUT, *((batch, 3, size, size) for batch in (1, 1, max_batch)))
    config.add_optimization_profile(profile)
    if tensorrt.targets:
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.__members__["SM{}{}".format(*gpu.compute_capability)], 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(f"{graph}: {heard.why()}")
    return Built(bytes(plan), OUTPUTS if attention else OUTPUTS[:1], time.monotonic() - started)


class TensorRtWays:
    """A plan, run call by call and as recorded graphs. One thread, one context, closed at the end."""

    def __init__(self, tensorrt: TensorRT, gpu: Gpu, built: Built, batches: Sequence[int]) -> None:
        trt = tensorrt.module
        self._heard = Heard()
        self._logger = make_logger(trt, self._heard)
        self._device = Device(unified=gpu.tegra)
        with self._device:
            self._engine = trt.Runtime(self._logger).deserialize_cuda_engine(built.plan)
        if self._engine is None:
            raise RuntimeError(self._heard.why())

        def session(graph_batches: int) -> Session:
            return Session(trt, self._engine, self._device, built.outputs, graph_batches=graph_batches)

        self._sessions = {False: session(0)}
        if import_driver() is not None:
            self._sessions[True] = session(max(batches))

    def _ready(self, batch: int, *, graph: bool) -> Ready:
        session = self._sessions[graph]
        with self._device:
            queue = session.alone(batch, graph=graph)
        cuda: Any = self._device.driver

        def engine_ms() -> float:
            with self._device:
                begin, end = cuda.Event(), cuda.Event()
                begin.record(session.stream)
                queue()
                end.record(session.stream)
                end.synchronize()
                return float(begin.time_till(end))

        def call(images: Images) -> Any:
            return session.run(images)[OUTPUTS[0]]

        for _ in range(_WARM):
            engine_ms()
        return Ready(engine_ms, call)

    def all(self, label: str) -> dict[str, Way]:
        """Both ways, by name; without cuda-bindings the first alone."""
        names = {False: f"{label}, call by call", True: f"{label}, graph replay"}

        def way(graph: bool) -> Way:
            return lambda batch: self._ready(batch, graph=graph)

        return {names[graph]: way(graph) for graph in self._sessions}

    def close(self) -> None:
        """Give the card back."""
        for session in self._sessions.values():
            session.close()
        self._engine = None
        self._device.close()
