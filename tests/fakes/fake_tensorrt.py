"""tensorrt as far as the backend uses it, on the pretended card.

Every name, argument and enum here is the real bindings' (``test_fakes.py`` compares them with TensorRT-RTX's), and
there is nothing here that is not there: code that uses a wrong name fails. A "plan" is a line of JSON that tells what
the engine is like and how it computes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from tests.fakes.fake_gpu import CARD, CardError

__version__ = "10.13.3.9"
MAGIC = b"fake plan "


def make_plan(**what: object) -> bytes:
    """A plan that :class:`Runtime` takes.

    Keys: ``model`` an ONNX file that computes (absent: faulty_backend's fabricated model), ``max_batch``, ``size``,
    ``dtype``, ``outputs`` (names and shapes), ``shift`` (adds to the first two probabilities: a miscompiled network).
    """
    return MAGIC + json.dumps(what).encode()


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(Enum):
    FLOAT = 0
    HALF = 1


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    def __init__(self, min_severity: ILogger.Severity = ILogger.WARNING) -> None:
        self.min_severity = min_severity

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        if severity.value <= self.min_severity.value:
            CARD.log.append(f"said {msg}")


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        if not CARD.probed:
            raise CardError("Runtime: made before the driver was probed: this ends a real process (F13)")
        CARD.check("Runtime")
        self._logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        CARD.check("deserialize_cuda_engine")
        data = bytes(serialized_engine)
        if not data.startswith(MAGIC):
            self._logger.log(ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magic tag)")
            return None
        return ICudaEngine(json.loads(data.removeprefix(MAGIC)))


class ICudaEngine:
    def __init__(self, what: dict[str, Any]) -> None:
        self._what = what
        self._size = what.get("size", 32)
        outputs = what.get("outputs", {"probabilities": [7], "attention": [14, 14]})
        self._shapes = {"images": (-1, 3, self._size, self._size)}
        self._shapes |= {name: (-1, *shape) for name, shape in outputs.items()}
        self.device_memory_size_v2 = what.get("memory", 4096)
        self._compute = _computation(what)

    @property
    def num_io_tensors(self) -> int:
        return len(self._shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self._shapes)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "images" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._what.get("dtype", "FLOAT")]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert (name, profile_index) == ("images", 0)
        most = self._what.get("max_batch", 4)
        return [(batch, *self._shapes[name][1:]) for batch in (1, 1, most)]

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> IExecutionContext | None:
        CARD.check("create_execution_context")
        if self._what.get("no_context"):
            return None
        return IExecutionContext(self, own_memory=strategy.name != "USER_MANAGED")


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, *, own_memory: bool) -> None:
        self._engine = engine
        self._memory = 0 if own_memory else None
        self._addresses: dict[str, int] = {}
        self._batch = 0
        self._ran = False
        self._recorded = False

    def set_device_memory(self, memory: int, size: int) -> None:
        CARD.seen_by_gpu(memory, size)
        if size < self._engine.device_memory_size_v2:
            raise CardError("too little working memory")
        self._memory = memory

    def set_tensor_address(self, name: str, memory: int) -> bool:
        CARD.check("set_tensor_address")
        if name not in self._engine._shapes:
            return False
        self._addresses[name] = memory
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        CARD.check("set_input_shape")
        if self._recorded:
            raise CardError("a context that belongs to a recording was changed: its replays are undefined from now on")
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        if len(shape) != 4 or any(not low <= n <= high for low, n, high in zip(least, shape, most, strict=True)):
            return False
        self._batch, self._ran = shape[0], False
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        CARD.check("execute_async_v3")
        if self._memory is None and self._engine.device_memory_size_v2:
            raise CardError("the context has no working memory")
        if not self._batch or set(self._addresses) != set(self._engine._shapes) or CARD.codes.pop("execute", 0):
            return False
        stream = CARD.streams[stream_handle]
        if stream.recording is not None:
            if not self._ran:
                raise CardError("recorded before a first run: what the shapes set off would be recorded")
            self._recorded = True
        self._ran = True
        batch = self._batch
        stream.add(lambda: self._kernel(batch))
        return True

    def _kernel(self, batch: int) -> None:
        if CARD.lost_work:
            return
        shapes = {name: (batch, *shape[1:]) for name, shape in self._engine._shapes.items()}
        views = {name: CARD.view(self._addresses[name], int(np.prod(shapes[name]))) for name in shapes}
        answers = self._engine._compute(views["images"].reshape(shapes["images"]).copy())
        for name, view in views.items():
            if name != "images":
                np.copyto(view, answers[name].reshape(-1))


def _computation(what: dict[str, Any]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    if "model" in what:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(what["model"], options, providers=["CPUExecutionProvider"])

        def compute(images: np.ndarray) -> dict[str, np.ndarray]:
            names = [output.name for output in session.get_outputs()]
            return dict(zip(names, session.run(names, {"images": images}), strict=True))

    else:
        from tests.fakes.faulty_backend import right_answer

        def compute(images: np.ndarray) -> dict[str, np.ndarray]:
            output = right_answer(images)
            return {"probabilities": output.probabilities, "attention": output.attention}

    def shifted(images: np.ndarray) -> dict[str, np.ndarray]:
        answers = compute(images)
        probabilities = answers["probabilities"].copy()
        probabilities[:, 0] += what.get("shift", 0.0)
        return answers | {"probabilities": probabilities / probabilities.sum(axis=1, keepdims=True)}

    return shifted if what.get("shift") else compute
