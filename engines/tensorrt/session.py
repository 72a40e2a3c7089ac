"""A plan at work on the GPU: named tensors, memory taken once, and a recorded graph for each small batch size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.backend import Images
from engines.tensorrt.cuda import Buffer, Device
from engines.tensorrt.graphs import Graph, GraphRefused, import_driver, record

log = logging.getLogger(__name__)

INPUT: Final = "images"
_SAME: Final = 1e-3
"""By how much a replayed graph may differ from the same work queued call by call: tactics are the same, so hardly."""


class PlanRefused(Exception):
    """TensorRT does not take the plan, or it is not one of our model. The message says what to do."""


class RunFailed(Exception):
    """TensorRT did not run what it was asked; the context is suspect."""


@dataclass(frozen=True)
class Layout:
    """What a plan takes and gives: ``images`` is ``[N, 3, size, size]``; ``rows`` are the outputs' shapes for one."""

    max_batch: int
    size: int
    rows: Mapping[str, tuple[int, ...]]


def _must(done: object, what: str) -> None:
    """TensorRT says False or None where others raise."""
    if done is False or done is None:
        raise RunFailed(f"TensorRT refused to {what}")


def layout_of(trt: Any, engine: Any, outputs: Sequence[str]) -> Layout:
    """Read an engine's tensors and check them against the contract of ``model.onnx``.

    Raises:
        PlanRefused: another model's plan: names, types or shapes differ.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    if inputs != [INPUT] or {*names} != {INPUT, *outputs}:
        raise PlanRefused(f"the plan's tensors are {names}, where {[INPUT, *outputs]} are due; compile it again")
    for name in (INPUT, *outputs):
        if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            kind = engine.get_tensor_dtype(name)
            raise PlanRefused(f"the plan's tensor {name!r} is {kind}, where float32 is due; compile it again")
    least, _, most = (tuple(shape) for shape in engine.get_tensor_profile_shape(INPUT, 0))
    if len(most) != 4 or most[1] != 3 or most[2] != most[3] or least[1:] != most[1:] or least[0] != 1 or most[0] < 1:
        raise PlanRefused(
            f"the plan takes images from {list(least)} to {list(most)}, where [1..N, 3, S, S] is due; compile it again"
        )
    rows = {name: tuple(engine.get_tensor_shape(name))[1:] for name in outputs}
    if any(side < 1 for row in rows.values() for side in row):
        raise PlanRefused(f"the plan's outputs have the shapes {rows} for one image, and none may be free")
    return Layout(max_batch=most[0], size=most[2], rows=rows)


class _Contexts:
    """Makes execution contexts that share one piece of working memory, as only one of them is ever at work."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self._trt, self._engine = trt, engine
        self._memory: Any = None
        self._size = 0
        self.shared = hasattr(engine, "device_memory_size_v2") and hasattr(trt, "ExecutionContextAllocationStrategy")
        """From TensorRT 10.1 on; before, each context has memory of its own."""

    def allocate(self, device: Device) -> None:
        """Take the working memory."""
        self._size = int(self._engine.device_memory_size_v2) if self.shared else 0
        self._memory = device.memory(self._size) if self._size else None

    def make(self) -> Any:
        """A new context; :class:`PlanRefused` where TensorRT has none."""
        if self.shared:
            context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise PlanRefused(
                "TensorRT made no execution context, most often for want of GPU memory: end other programs that use the"
                " GPU, or compile with a smaller --max-batch"
            )
        if self._memory is not None:
            context.set_device_memory(int(self._memory), self._size)
        return context

    def free(self) -> None:
        """Give the working memory back; no context may run any more."""
        if self._memory is not None:
            self._memory.free()
            self._memory = None


class Session:
    """Runs one engine, from the thread that made it. Everything is allocated here, nothing in :meth:`run`."""

    def __init__(
        self, trt: Any, engine: Any, device: Device, outputs: Sequence[str], *, graph_batches: int = 0
    ) -> None:
        """Take memory, and record graphs of batches ``1..graph_batches`` where cuda-bindings is installed.

        Raises:
            PlanRefused: the plan is not one of our model, or there is no memory for it.
            RunFailed: its first runs fail.
        """
        self.layout = layout_of(trt, engine, outputs)
        self.graphs: dict[int, Graph] = {}
        """By batch size."""
        self._device = device
        self._buffers: dict[str, Buffer] = {}
        self._recorded: list[Any] = []
        """Contexts that belong to a graph."""
        self._alone: list[Graph] = []
        self._batch = 0
        """What the eager context is set to."""
        self._contexts = _Contexts(trt, engine)
        with device, ExitStack() as undo:
            undo.callback(self._contexts.free)
            undo.callback(self._free)
            self.stream = device.stream()
            self._contexts.allocate(device)
            top, size = self.layout.max_batch, self.layout.size
            for name, shape in {INPUT: (3, size, size), **self.layout.rows}.items():
                self._buffers[name] = device.buffer((top, *shape))
            self._eager = self._context()
            # Where each graph's context has memory of its own, one graph must do: the single capture's.
            for batch in range(1, min(graph_batches, top if self._contexts.shared else 1) + 1):
                if not self._record(batch):
                    break
            undo.pop_all()

    def _context(self) -> Any:
        """A context that knows where its tensors lie."""
        context = self._contexts.make()
        for name, buffer in self._buffers.items():
            _must(context.set_tensor_address(name, buffer.address), f"take the address of {name!r}")
        return context

    @property
    def _outputs(self) -> list[Buffer]:
        return [self._buffers[name] for name in self.layout.rows]

    def _shape(self, context: Any, batch: int) -> None:
        size = self.layout.size
        _must(context.set_input_shape(INPUT, (batch, 3, size, size)), f"take a batch of {batch}")

    def _queue(self, context: Any, batch: int) -> None:
        """Queue one run: images in, the model, outputs back. What it does not write stays NaN."""
        for buffer in self._outputs:
            buffer.spoil_device(batch, self.stream)
        self._buffers[INPUT].upload(batch, self.stream)
        _must(context.execute_async_v3(self.stream.handle), f"run a batch of {batch}")
        for buffer in self._outputs:
            buffer.download(batch, self.stream)

    def _record(self, batch: int) -> bool:
        """Record the graph of one batch size; False, and a line in the log, where that does not work here."""
        driver = import_driver()
        if driver is None:
            return False
        context = self._context()
        self._recorded.append(context)
        self._shape(context, batch)
        try:
            self._record_proved(driver, context, batch)
        except (GraphRefused, RunFailed, self._device.driver.Error) as error:
            log.warning("batches of %d and more run without a CUDA graph: %s", batch, error)
            return False
        return True

    def _record_proved(self, driver: Any, context: Any, batch: int) -> None:
        """Record, replay, and compare with the same work queued call by call."""
        shape = (batch, *self._buffers[INPUT].host.shape[1:])
        images = np.random.default_rng(batch).standard_normal(shape, dtype=np.float32)
        # Not for the numbers alone: what TensorRT puts off from setting the shapes to the first run is not recorded.
        expected = self._run(images, lambda: self._queue(context, batch))
        capturable = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX tells; TensorRT lets one try
        if capturable is not None and not capturable(self.stream.handle):
            raise GraphRefused("TensorRT cannot record this plan")
        graph = record(driver, self.stream.handle, lambda: self._queue(context, batch))
        replayed = self._run(images, graph.launch)
        if any(not np.allclose(replayed[name], expected[name], atol=_SAME, rtol=_SAME) for name in expected):
            graph.close()
            raise GraphRefused("its replay gives other numbers than its calls")
        self.graphs[batch] = graph

    def _run(self, images: Images, queue: Callable[[], None]) -> dict[str, NDArray[np.float32]]:
        batch = len(images)
        self._buffers[INPUT].host[:batch] = images
        for buffer in self._outputs:
            buffer.spoil_host(batch)
        queue()
        self.stream.synchronize()
        return {name: self._buffers[name].host[:batch].copy() for name in self.layout.rows}

    def run(self, images: Images) -> dict[str, NDArray[np.float32]]:
        """Run ``[N, 3, S, S]`` float32, N at most ``layout.max_batch``; outputs by name, ``[N, ...]`` float32.

        Raises:
            RunFailed: TensorRT refused.
            Exception: what pycuda raises for CUDA's errors. After any error this process must end (F12).
        """
        batch = len(images)
        with self._device:
            if (graph := self.graphs.get(batch)) is not None:
                return self._run(images, graph.launch)
            if batch != self._batch:
                self._shape(self._eager, batch)
                self._batch = batch
            return self._run(images, lambda: self._queue(self._eager, batch))

    def alone(self, batch: int, *, graph: bool) -> Callable[[], None]:
        """The network without the copies around it, on what the memory holds: something to queue, for measuring.

        Raises:
            GraphRefused: a graph was asked for, and cannot be recorded.
        """
        context = self._context()
        self._shape(context, batch)
        self._recorded.append(context)
        handle = self.stream.handle

        def queue() -> None:
            _must(context.execute_async_v3(handle), f"run a batch of {batch}")

        queue()
        self.stream.synchronize()
        if not graph:
            return queue
        if (driver := import_driver()) is None:
            raise GraphRefused("cuda-bindings is not installed")
        recorded = record(driver, handle, queue)
        self._alone.append(recorded)
        return recorded.launch

    def _free(self) -> None:
        for recorded in self._alone:
            recorded.close()
        self._alone.clear()
        for graph in self.graphs.values():
            graph.close()
        self.graphs.clear()
        self._recorded.clear()
        self._eager = None
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()
        self.stream = None

    def close(self) -> None:
        """Give all memory back; the engine may go afterwards."""
        with self._device:
            self.stream.synchronize()
            self._free()
            self._contexts.free()
