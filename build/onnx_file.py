"""ONNX files read and written whole: what is none is refused in one sentence, and what is written was checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx

LIMIT: Final = (1 << 31) - 1
"""Bytes of a protobuf message: a larger model would have to lie in several files, and a bundle's is one."""
OPSET: Final = 20
IR_VERSION: Final = 10
"""Opset 20 and IR version 10 load in ONNX Runtime 1.23, the last one for Python 3.10."""
_REMEDY: Final = "export the checkpoint again"
_SMALL: Final = 64
"""Constants up to this many values can be shapes and indices, whose values shape inference needs."""


class GraphError(ValueError):
    """A graph or its file cannot be used. The message says which, what is wrong and what to do."""


def read_model(path: Path) -> onnx.ModelProto:
    """Read a model and check that it is one.

    Raises:
        GraphError: missing, empty, truncated, damaged or foreign; of a later format; or with weights in other files.
    """
    if not path.is_file():
        raise GraphError(f"{path}: is no file; name an ONNX model")
    try:
        size = path.stat().st_size
        proto = onnx.load(path, load_external_data=False) if 0 < size <= LIMIT else onnx.ModelProto()
    except OSError as error:
        raise GraphError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's and onnx's errors share no public base
        raise GraphError(f"{path}: is no ONNX model, or only the beginning of one; {_REMEDY}") from error
    if size == 0:
        raise GraphError(f"{path}: the file is empty; {_REMEDY}")
    if size > LIMIT:
        raise GraphError(f"{path}: has {size / 1e9:.1f} GB, and an ONNX model in one file ends at 2 GB; {_REMEDY}")
    _check_format(path, proto)
    _check(path, proto, "is damaged or incomplete")
    return proto


def _check_format(path: Path, proto: onnx.ModelProto) -> None:
    if proto.ir_version == 0 or not proto.graph.node:
        raise GraphError(f"{path}: is no ONNX model; {_REMEDY}")
    opset = max((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    if proto.ir_version > IR_VERSION or opset > OPSET:
        raise GraphError(
            f"{path}: has IR version {proto.ir_version} and opset {opset}; devices read up to {IR_VERSION} and {OPSET}."
            " Export the checkpoint with this software"
        )
    if outside := next((t.name for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL), None):
        raise GraphError(f"{path}: the weight {outside} lies in another file, and a bundle's model is one file")


def _check(path: Path, proto: onnx.ModelProto, what: str) -> None:
    for tensor in proto.graph.initializer:  # onnx's checker does not compare a weight's bytes with its shape
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if tensor.HasField("raw_data") and len(tensor.raw_data) != itemsize * math.prod(tensor.dims):
            raise GraphError(f"{path}: {what} (the weight {tensor.name} has not the bytes of its shape); {_REMEDY}")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # the checker's and the shape inference's errors share no public base
        raise GraphError(f"{path}: {what} ({_first_line(error)}); {_REMEDY}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def write_model(proto: onnx.ModelProto, path: Path) -> None:
    """Check a model and write it; the file is there whole or not at all.

    Raises:
        GraphError: the checker refuses the graph, or it is too large for one file.
        OSError: the file cannot be written.
    """
    if (size := proto.ByteSize()) > LIMIT:
        raise GraphError(f"{path}: would have {size / 1e9:.1f} GB, and an ONNX model in one file ends at 2 GB")
    _check(path, proto, "the exporter made an invalid graph")
    temporary = path.with_name(path.name + ".tmp")
    try:
        onnx.save(proto, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The weights and other constants by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """The element type (``onnx.TensorProto.FLOAT`` and so on) of every tensor of the graph."""
    inferred = _inferred(proto)
    types = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    types.update((value.name, value.type.tensor_type.elem_type) for value in _values(inferred))
    return types


def shapes(proto: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """The shape of every tensor of the graph but small constants; a free side is its name, an unknown one ``"?"``."""
    return {value.name: side_lengths(value) for value in _values(_inferred(proto))}


def side_lengths(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """A tensor's shape; a free side is its name, an unknown one ``"?"``."""
    return tuple(
        side.dim_value if side.HasField("dim_value") else side.dim_param or "?"
        for side in value.type.tensor_type.shape.dim
    )


def _inferred(proto: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with every tensor's type and shape, large weights as mere inputs: inference copies what it is given."""
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    light.graph.name = proto.graph.name
    light.graph.node.extend(proto.graph.node)
    light.graph.input.extend(proto.graph.input)
    light.graph.output.extend(proto.graph.output)
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) > _SMALL:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            light.graph.initializer.append(tensor)
    try:
        return onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True).graph
    except Exception as error:  # onnx's errors share no public base
        raise GraphError(f"the graph contradicts itself ({_first_line(error)}); {_REMEDY}") from error


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.value_info
    yield from graph.output
