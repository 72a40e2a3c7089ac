"""From the portable FP32 graph to a strongly typed FP16 one: every precision is in the graph, as a Cast.

TensorRT 11 knows only strongly typed networks: what computes in which precision is read from the graph, and the builder
changes nothing. Here weights and matrix products are FP16. FP32 stay: LayerNormalization and softmax, whose sums lose
digits in FP16 (and overflow, in a network with large activations); everything behind the last product, so that the
answer is rounded to FP16 nowhere after it was computed; and input and outputs, so that both graphs are called alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from build.onnx_file import GraphError, constants, element_types, read_model, write_model

MAXIMUM: Final = float(np.finfo(np.float16).max)
"""65504: a larger value becomes infinite in FP16."""
SINGLE: Final = frozenset({"LayerNormalization", "Softmax"})
"""Always FP32."""
PRODUCTS: Final = frozenset({"Conv", "MatMul"})
"""FP16, on the tensor cores; Gemm is the head's alone, a few thousand multiplications, and stays FP32."""
_POINTWISE: Final = frozenset({"Add", "Mul", "Gelu"})
_MOVING: Final = frozenset({"Concat", "Expand", "Gather", "Reshape", "Slice", "Split", "Transpose"})
_TAIL_ONLY: Final = frozenset({"Div", "Gemm", "ReduceMean"})
_INTEGER: Final = frozenset({"Shape"})
_KNOWN: Final = SINGLE | PRODUCTS | _POINTWISE | _MOVING | _TAIL_ONLY | _INTEGER
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16)
_SUFFIX: Final[dict[int, str]] = {TensorProto.FLOAT: ".fp32", TensorProto.FLOAT16: ".fp16"}


def export_fp16(source: Path, path: Path, *, residual_single: bool = False) -> Path:
    """Write the FP16 graph of a bundle's ``model.onnx``; returns ``path``.

    Input ``images`` and outputs ``probabilities`` and ``attention`` are float32, as in the source.

    Args:
        source: The FP32 graph; its large weights may be stored as float16.
        path: The file to write.
        residual_single: Keep the sums that run through all blocks in FP32: a fifth of the error for some more memory
            traffic, and the way out for a network whose activations leave FP16's range.

    Raises:
        GraphError: the source is no graph of this project, or a weight does not fit into FP16.
        OSError: the file cannot be written.
    """
    write_model(to_fp16(read_model(source), residual_single=residual_single), path)
    return path


def to_fp16(proto: onnx.ModelProto, *, residual_single: bool = False) -> onnx.ModelProto:
    """The FP16 graph of an FP32 one, whose weights may be stored as float16; the argument is left as it is.

    Raises:
        GraphError: an operator that this exporter does not make, or a weight beyond FP16's range.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    _restore(graph)
    foreign = sorted({node.op_type for node in graph.node} - _KNOWN)
    if foreign:
        raise GraphError(f"the graph has operators that this exporter does not make: {', '.join(foreign)}")
    single = _tail(graph) | (_residual_sums(graph) if residual_single else set())
    rewriter = _Rewriter(constants(graph), element_types(result), single)
    nodes = [made for node in graph.node for made in rewriter.rewrite(node)]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(rewriter.used.values())
    return result


def half_tensors(proto: onnx.ModelProto) -> list[str]:
    """Names of the computed tensors that are FP16, casts left out."""
    types = element_types(proto)
    return [
        name
        for node in proto.graph.node
        if node.op_type != "Cast"
        for name in node.output
        if types[name] == TensorProto.FLOAT16
    ]


def _restore(graph: onnx.GraphProto) -> None:
    """Weights that were stored as float16 with a Cast behind them become plain float32 weights again."""
    stored = constants(graph)
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in stored]
    for node in casts:
        tensor = stored[node.input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0]))
        graph.node.remove(node)


def _tail(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the nodes that only shape the answer: backwards from the graph's outputs to the last products."""
    maker = {name: node for node in graph.node for name in node.output}
    tail: set[str] = set()
    waiting = [value.name for value in graph.output]
    while waiting:
        name = waiting.pop()
        node = maker.get(name)
        if node is not None and node.op_type not in PRODUCTS and name not in tail:
            tail.update(node.output)
            if node.op_type != "LayerNormalization":
                waiting.extend(node.input)
    return tail


def _residual_sums(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the additions of two computed tensors; a bias or a position embedding is a constant."""
    stored = constants(graph)
    return {
        node.output[0]
        for node in graph.node
        if node.op_type == "Add" and not any(name in stored for name in node.input)
    }


class _Rewriter:
    """Goes through the nodes in order, and casts each input to what its node computes in."""

    def __init__(self, stored: dict[str, TensorProto], types: dict[str, int], single: set[str]) -> None:
        self._stored = stored
        self._types = types
        self._single = single
        self._cast: dict[tuple[str, int], str] = {}
        self.used: dict[str, TensorProto] = {}
        """The constants that the new nodes read, by name."""

    def rewrite(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The node in its precision, after the casts that it needs."""
        kind = self._precision(node)
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for index, name in enumerate(node.input):
            wanted = kind if self._types[name] in _FLOATS else self._types[name]
            if name in self._stored:
                made.input[index] = self._constant(name, wanted)
            elif wanted != self._types[name]:
                if (name, wanted) not in self._cast:
                    self._cast[name, wanted] = cast = name + _SUFFIX[wanted]
                    yield onnx.helper.make_node("Cast", [name], [cast], name=cast, to=wanted)
                made.input[index] = self._cast[name, wanted]
        self._types.update((name, kind) for name in node.output if self._types[name] in _FLOATS)
        yield made

    def _precision(self, node: onnx.NodeProto) -> int:
        if node.op_type in SINGLE or node.output[0] in self._single:
            return int(TensorProto.FLOAT)
        if node.op_type in _TAIL_ONLY:
            raise GraphError(f"node {node.name}: a {node.op_type} inside the network, which this exporter never makes")
        if node.op_type in _MOVING:  # no arithmetic: what comes in goes out
            computed = [self._types[name] for name in node.input if name not in self._stored]
            if TensorProto.FLOAT16 not in computed and TensorProto.FLOAT in computed:
                return int(TensorProto.FLOAT)
        return int(TensorProto.FLOAT16)

    def _constant(self, name: str, wanted: int) -> str:
        """The constant's name in the wanted precision."""
        tensor = self._stored[name]
        if tensor.data_type == wanted:
            self.used.setdefault(name, tensor)
            return name
        half = name + _SUFFIX[wanted]
        if half not in self.used:
            values = numpy_helper.to_array(tensor)
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= MAXIMUM:
                raise GraphError(
                    f"weight {name}: {largest:g} does not fit into FP16, which ends at {MAXIMUM:g}; export without FP16"
                )
            self.used[half] = numpy_helper.from_array(values.astype(np.float16), half)
        return half
