"""The compiling side of TensorRT 8.6, 10.3 and 11.4, which no machine without a GPU can run.

What there is of a class and an enum in which version stands in ``tensorrt_names.json``: what Python's ``dir`` tells of
NVIDIA's own bindings of that version. A name that is not there cannot be used here, neither read nor set, so that code
written for another version fails. A "plan" is JSON that tells how it was built.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")  # no part of what an agent needs
TensorProto = onnx.TensorProto

NAMES: dict[str, dict[str, set[str]]] = {
    version: {name: set(words.split()) for name, words in classes.items()}
    for version, classes in json.loads((Path(__file__).parent / "tensorrt_names.json").read_text()).items()
}
VERSIONS = tuple(NAMES)
_FLAG_VALUES = {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1, "STRONGLY_TYPED": 1}
"""In 11 ``STRONGLY_TYPED`` is 0; see :class:`FakeTensorRT`."""
_LAYERS = {
    "LayerNormalization": "NORMALIZATION",
    "Softmax": "SOFTMAX",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
    "Conv": "CONVOLUTION",
    "Cast": "CAST",
    "Gelu": "ACTIVATION",
    "Erf": "UNARY",
}


class Strict:
    """Whatever is read or set must be a name of the real class in this version."""

    _trt: FakeTensorRT
    _kind: str

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            _check(object.__getattribute__(self, "_trt"), object.__getattribute__(self, "_kind"), name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            _check(self._trt, self._kind, name)
        object.__setattr__(self, name, value)


def _check(trt: FakeTensorRT, kind: str, name: str) -> None:
    if name not in NAMES[trt.__version__][kind]:
        raise AttributeError(f"TensorRT {trt.__version__}: {kind} has no {name}")


class Tensor(Strict):
    _kind = "ITensor"

    def __init__(self, trt: FakeTensorRT, name: str, dtype: Enum, shape: tuple[int, ...]) -> None:
        self._trt = trt
        self.name, self.dtype, self.shape = name, dtype, shape


class Layer(Strict):
    _kind = "ILayer"

    def __init__(self, trt: FakeTensorRT, node: onnx.NodeProto, dtype: Enum) -> None:
        self._trt, self._output = trt, Tensor(trt, node.output[0], dtype, ())
        self.name, self.type = node.name, trt.LayerType[_LAYERS.get(node.op_type, "SHUFFLE")]
        self._output_type: Enum | None = None

    def get_output(self, index: int) -> Tensor | None:
        return self._output if index == 0 else None

    def set_output_type(self, index: int, dtype: Enum) -> None:
        assert index == 0
        self._output_type = dtype


class Network(Strict):
    _kind = "INetworkDefinition"

    def __init__(self, trt: FakeTensorRT, flags: int) -> None:
        self._trt, self._flags = trt, flags
        self._strong = trt.__version__.startswith("11") or ("STRONGLY_TYPED" in trt._kinds and bool(flags >> 1 & 1))
        self._layers: list[Layer] = []
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_layer(self, index: int) -> Layer:
        return self._layers[index]

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self._outputs[index]

    def get_flag(self, flag: IntEnum) -> bool:
        return self._strong if flag.name == "STRONGLY_TYPED" else bool(self._flags >> flag & 1)


class ParserError(Strict):
    _kind = "ParserError"

    def __init__(self, trt: FakeTensorRT, code: str, desc: str, where: tuple[int, str, str]) -> None:
        self._trt, self._code, self._desc = trt, trt.ErrorCode[code], desc
        self._node, self._name, self._operator = where

    def code(self) -> Enum:
        return self._code

    def desc(self) -> str:
        return self._desc

    def node(self) -> int:
        return self._node

    def node_name(self) -> str:
        return self._name

    def node_operator(self) -> str:
        return self._operator


class Parser(Strict):
    _kind = "OnnxParser"

    def __init__(self, trt: FakeTensorRT, network: Network) -> None:
        self._trt, self._network = trt, network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def _refuse(self, code: str, desc: str, where: tuple[int, str, str] = (-1, "", "")) -> bool:
        self._errors.append(ParserError(self._trt, code, f"Assertion failed: {desc}", where))
        return False

    def parse(self, model: bytes) -> bool:
        trt, network = self._trt, self._network
        old = trt.__version__.startswith("8")
        if old and not network._flags & 1:
            return self._refuse("INVALID_VALUE", "This version of the ONNX parser only supports explicit batch")
        if b"images" not in model:
            return True  # as the real one does: a foreign file is a network without layers
        try:
            proto = onnx.load_from_string(model)
        except Exception:  # noqa: BLE001
            return self._refuse("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")
        if old and not self._old_takes(proto):
            return False
        types = _types(proto) if network._strong else {}
        for node in proto.graph.node:
            half = types.get(node.output[0]) == TensorProto.FLOAT16
            network._layers.append(Layer(trt, node, trt.DataType.HALF if half else trt.DataType.FLOAT))
        for found, made in ((proto.graph.input, network._inputs), (proto.graph.output, network._outputs)):
            for value in found:
                tensor = value.type.tensor_type
                shape = tuple(-1 if side.dim_param else side.dim_value for side in tensor.shape.dim)
                half = tensor.elem_type == TensorProto.FLOAT16
                made.append(Tensor(trt, value.name, trt.DataType.HALF if half else trt.DataType.FLOAT, shape))
        return True

    def _old_takes(self, proto: onnx.ModelProto) -> bool:
        stored = {tensor.name for tensor in proto.graph.initializer}
        if proto.opset_import[0].version > 17:
            self._trt._say("WARNING", "TensorRT supports opset 17; the model is newer")
        for index, node in enumerate(proto.graph.node):
            where = (index, node.name, node.op_type)
            if node.op_type == "Gelu":
                return self._refuse("UNSUPPORTED_NODE", "No importer registered for op: Gelu", where)
            if node.op_type == "Conv" and node.input[1] not in stored:
                return self._refuse("UNSUPPORTED_NODE", "The kernel tensor is required to be an initializer.", where)
        return True


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(proto).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}


class Profile(Strict):
    _kind = "IOptimizationProfile"

    def __init__(self, trt: FakeTensorRT) -> None:
        self._trt = trt
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def __bool__(self) -> bool:
        return all(
            a <= b <= c
            for least, usual, most in self._shapes.values()
            for a, b, c in zip(least, usual, most, strict=True)
        )

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - TensorRT's own names
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class HostMemory(bytes):
    """Has a buffer, as the real one."""

    @property
    def nbytes(self) -> int:
        return len(self)


class TimingCache(Strict):
    _kind = "ITimingCache"

    def __init__(self, trt: FakeTensorRT, data: bytes) -> None:
        self._trt, self._data = trt, data

    def serialize(self) -> HostMemory:
        return HostMemory(self._data)


class Config(Strict):
    _kind = "IBuilderConfig"

    def __init__(self, trt: FakeTensorRT) -> None:
        self._trt = trt
        self._flags = {trt.BuilderFlag.TF32}
        self._profiles: list[Profile] = []
        self._pools: dict[Enum, int] = {}
        self._timing: TimingCache | None = None
        self.builder_optimization_level = 3
        if "progress_monitor" in NAMES[trt.__version__]["IBuilderConfig"]:
            self.progress_monitor: Any = None

    def set_flag(self, flag: Enum) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Enum) -> None:
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: Enum, size: int) -> None:
        self._pools[pool] = size

    def add_optimization_profile(self, profile: Profile) -> int:
        if "profile" in self._trt.refuse:
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, data: bytes) -> TimingCache | None:
        return TimingCache(self._trt, data) if data in {b"", b"measured"} else None

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        self._timing = cache
        self._trt.log.append(f"timing cache of {len(cache._data)} bytes")
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self._timing


class Builder(Strict):
    _kind = "Builder"

    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        if "builder" in trt.refuse:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._trt = trt
        trt.logger = logger

    @property
    def platform_has_fast_fp16(self) -> bool:
        return "fast fp16" not in self._trt.refuse

    def create_network(self, flags: int = 0) -> Network | None:
        return None if "network" in self._trt.refuse else Network(self._trt, flags)

    def create_builder_config(self) -> Config | None:
        return None if "config" in self._trt.refuse else Config(self._trt)

    def create_optimization_profile(self) -> Profile:
        return Profile(self._trt)

    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
        trt = self._trt
        flags = {flag.name for flag in config._flags}
        strong = network._strong
        if "build" in trt.refuse:
            trt._say("ERROR", trt.refuse["build"])
            return None
        if strong and "FP16" in flags:
            trt._say("ERROR", "Error Code 4: API Usage Error (FP16 is not supported for strongly typed networks)")
            return None
        if not config._profiles:
            trt._say("ERROR", "Error Code 4: API Usage Error (Network has dynamic inputs, but no profile)")
            return None
        if getattr(config, "progress_monitor", None) is not None and trt.progress:
            trt.progress(config.progress_monitor)
        if config._timing is not None:
            config._timing = TimingCache(trt, b"measured")
        held = [
            layer.name
            for layer in network._layers
            if layer._output_type == trt.DataType.FLOAT and layer.precision == trt.DataType.FLOAT
        ] if not strong else []  # fmt: skip
        told = {
            "version": trt.__version__,
            "strong": strong,
            "flags": sorted(flags),
            "held": held,
            "layers": [layer.type.name for layer in network._layers],
            "shapes": config._profiles[0]._shapes,
            "pools": {pool.name: size for pool, size in config._pools.items()},
            "level": config.builder_optimization_level,
        }
        trt.builds += 1
        return HostMemory(json.dumps(told).encode())


class _Logger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        self._made = True


class _Monitor:
    def __init__(self) -> None:
        self._made = True


class FakeTensorRT:
    """The module. ``refuse`` names what gives None or False, or what the builder's error says."""

    def __init__(self, version: str) -> None:
        names = NAMES[version]
        self.__version__ = version
        self.refuse: dict[str, str] = {}
        self.log: list[str] = []
        self.builds = 0
        self.logger: Any = None
        self.progress: Callable[[Any], None] | None = None
        values = dict(_FLAG_VALUES) if version < "9" or version.startswith("10") else {"STRONGLY_TYPED": 0}
        flags = {name: values.get(name, 7) for name in sorted(names["NetworkDefinitionCreationFlag"])}
        self.NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", flags)
        for name in ("BuilderFlag", "MemoryPoolType", "LayerType", "DataType"):
            setattr(self, name, Enum(name, sorted(names[name])))
        self.ErrorCode = Enum("ErrorCode", ["MODEL_DESERIALIZE_FAILED", "INVALID_VALUE", "UNSUPPORTED_NODE"])
        self.ILogger = _Logger
        if "IProgressMonitor" in names:
            self.IProgressMonitor = _Monitor
        self.IBuilderConfig = SimpleNamespace(**dict.fromkeys(names["IBuilderConfig"]))
        self.Runtime = object
        self._kinds = names["NetworkDefinitionCreationFlag"]

    def Builder(self, logger: Any) -> Builder:  # noqa: N802
        assert logger._made, "pybind11 refuses a logger whose base was not made"
        return Builder(self, logger)

    def OnnxParser(self, network: Network, logger: Any) -> Parser:  # noqa: N802
        assert logger._made
        return Parser(self, network)

    def _say(self, severity: str, message: str) -> None:
        self.logger.log(_Logger.Severity[severity], message)
