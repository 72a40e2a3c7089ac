"""Rewrites a graph for parsers that end at opset 17, as TensorRT 8.6's does (JetPack 6.0).

``Gelu`` becomes its definition through ``Erf``; the axes of a reduction and the number of a split's parts move to where
opset 17 has them; and weights stored as float16 with a Cast behind them become plain weights, which those parsers ask
for. The numbers stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from engines.tensorrt.plans import PlanError

if TYPE_CHECKING:
    import onnx

OPSET: Final = 17
IR_VERSION: Final = 8
_SAME_SINCE_17: Final = frozenset(
    {"Add", "Cast", "Concat", "Constant", "Conv", "Div", "Erf", "Expand", "Gather", "Gemm", "Identity"}
    | {"LayerNormalization", "MatMul", "Mul", "Pow", "Reshape", "Shape", "Slice", "Softmax", "Sqrt", "Squeeze", "Sub"}
    | {"Transpose", "Unsqueeze", "Where"}
)
"""Operators of our graphs that mean the same in opset 17 and in those up to 20."""
_END: Final = int(np.iinfo(np.int64).max)


def to_opset_17(graph: bytes, *, name: str) -> bytes:
    """Rewrite an ONNX file's bytes.

    Args:
        graph: the file's bytes; opset 17 to 20.
        name: the file, for messages.

    Raises:
        PlanError: the package ``onnx`` is missing, the bytes are no ONNX graph, or a node has no counterpart.
    """
    try:
        import onnx
    except ImportError as error:
        raise PlanError(
            f"{name}: this TensorRT's parser is too old for the graph as it is, and rewriting it needs the package"
            " onnx; install it with: pip install onnx"
        ) from error
    try:
        proto = onnx.load_from_string(graph)
    except Exception as error:  # protobuf's and onnx's errors share no public base
        raise PlanError(f"{name}: is no ONNX graph, or only a part of one; export the bundle again") from error
    opset = max((entry.version for entry in proto.opset_import if not entry.domain), default=0)
    if opset <= OPSET:
        return graph
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        nodes.extend(_rewrite(onnx, node, stored, name))
    used = {wanted for node in nodes for wanted in node.input}
    del proto.graph.node[:], proto.graph.initializer[:], proto.graph.value_info[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(tensor for key, tensor in stored.items() if key in used)
    for entry in proto.opset_import:
        entry.version = OPSET
    proto.ir_version = IR_VERSION
    rewritten: bytes = proto.SerializeToString()
    return rewritten


def _rewrite(onnx: Any, node: Any, stored: dict[str, Any], name: str) -> list[Any]:
    """A node's counterparts in opset 17."""
    settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "Gelu":
        if settings.get("approximate", b"none") != b"none":
            raise PlanError(
                f"{name}: node {node.name}: a Gelu by tanh, which no model here has; export the bundle again"
            )
        return _gelu(onnx, node, stored)
    if node.op_type == "Cast" and node.input[0] in stored and settings["to"] == onnx.TensorProto.FLOAT:
        values = onnx.numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
        stored[node.output[0]] = onnx.numpy_helper.from_array(values, node.output[0])
        return []
    if node.op_type == "ReduceMean" and len(node.input) == 2:
        axes = stored.get(node.input[1])
        if axes is None:
            raise PlanError(f"{name}: node {node.name}: its axes are computed, which opset 17 has not")
        kept = {"keepdims": settings.get("keepdims", 1), "axes": onnx.numpy_helper.to_array(axes).tolist()}
        return [onnx.helper.make_node(node.op_type, [node.input[0]], [*node.output], name=node.name, **kept)]
    if node.op_type == "Shape" and settings:  # by a slice, since parsers were slow to learn of start and end
        return _shape_slice(onnx, node, settings, stored)
    if node.op_type == "Split":
        settings.pop("num_outputs", None)  # equal parts are what opset 17 makes where no sizes are given
        return [onnx.helper.make_node("Split", [*node.input], [*node.output], name=node.name, **settings)]
    if node.op_type not in _SAME_SINCE_17:
        raise PlanError(
            f"{name}: node {node.name}: {node.op_type} has no counterpart in opset {OPSET}, where this TensorRT's"
            " parser ends; update TensorRT (JetPack 6.1 and newer have 10)"
        )
    return [node]


def _shape_slice(onnx: Any, node: Any, settings: dict[str, Any], stored: dict[str, Any]) -> list[Any]:
    ends = {"start": settings.get("start", 0), "end": settings.get("end", _END), "axis": 0}
    for number in ends.values():
        key = f"shape.{number}"
        stored.setdefault(key, onnx.numpy_helper.from_array(np.array([number], np.int64), key))
    (out,) = node.output
    whole = onnx.helper.make_node("Shape", [*node.input], [f"{out}.whole"], name=f"{node.name}.whole")
    parts = [f"{out}.whole", *(f"shape.{number}" for number in ends.values())]
    return [whole, onnx.helper.make_node("Slice", parts, [out], name=node.name)]


def _gelu(onnx: Any, node: Any, stored: dict[str, Any]) -> list[Any]:
    """``0.5 * x * (1 + erf(x / sqrt(2)))``, which is what Gelu is (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    (x,), (y,) = node.input, node.output
    for number in (2**-0.5, 1.0, 0.5):
        key = f"gelu.{number:.3f}"
        stored.setdefault(key, onnx.numpy_helper.from_array(np.array(number, np.float32), key))
    steps = [
        ("Mul", [x, "gelu.0.707"], f"{y}.scaled"),
        ("Erf", [f"{y}.scaled"], f"{y}.erf"),
        ("Add", [f"{y}.erf", "gelu.1.000"], f"{y}.share"),
        ("Mul", [x, f"{y}.share"], f"{y}.double"),
        ("Mul", [f"{y}.double", "gelu.0.500"], y),
    ]
    return [onnx.helper.make_node(kind, inputs, [out], name=f"{node.name}.{kind}.{out}") for kind, inputs, out in steps]
