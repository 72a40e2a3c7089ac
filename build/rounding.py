"""What a card computes of an FP16 graph, on the CPU: every FP16 result is rounded to FP16, sums run in FP32.

ONNX Runtime has no FP16 arithmetic on most CPUs. It computes in FP32 and drops the pairs of casts between, so that its
figures for an FP16 graph are some ten times too good. Here the rounding is spelt out as nodes, in an FP32 graph that
runs with ONNX Runtime's optimisations off. An overflow shows as it does on a card: as infinity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from build.fp16 import MAXIMUM
from build.onnx_file import element_types
from engines.backend import Images

_ROUNDS: Final = frozenset({"Add", "Conv", "Gelu", "MatMul", "Mul"})
"""Operators whose results are new numbers; the others pass on what was rounded before."""
_EXACT: Final = ".exact"
_PEAK: Final = ".peak"
_ERRORS_ONLY: Final = 3


@dataclass(frozen=True)
class RoundedAnswer:
    """What a card would answer, and how close it came to FP16's end.

    ``probabilities`` ``[N, classes]`` and ``attention`` ``[N, grid, grid]`` are float32; ``peaks`` has the largest
    magnitude of each FP16 tensor before it was rounded, in the graph's order (65504 is the largest that fits).
    """

    probabilities: NDArray[np.float32]
    attention: NDArray[np.float32]
    peaks: Mapping[str, float]

    @property
    def highest(self) -> tuple[str, float]:
        """The tensor with the largest magnitude and that magnitude; after an overflow, the tensor where it began."""
        for item in self.peaks.items():
            if not item[1] <= MAXIMUM:
                return item
        return max(self.peaks.items(), key=lambda item: item[1])


def run_rounded(half: onnx.ModelProto, images: Images, threads: int = 0) -> RoundedAnswer:
    """Run an FP16 graph with a card's rounding, picture by picture.

    Args:
        half: The strongly typed graph of ``build.fp16``.
        images: ``[N, 3, S, S]`` float32, preprocessed.
        threads: Compute threads; 0 lets ONNX Runtime choose.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    graph = with_rounding(half, peaks=True).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = [session.run(names, {session.get_inputs()[0].name: image[None]}) for image in images]
    peaks = {  # numpy's maximum of numbers and a NaN is NaN: an overflow is not lost
        name.removesuffix(_EXACT + _PEAK): float(np.max([answer[index] for answer in answers]))
        for index, name in enumerate(names)
        if name.endswith(_PEAK)
    }
    probabilities, attention = (np.concatenate([answer[index] for answer in answers]) for index in (0, 1))
    return RoundedAnswer(probabilities, attention, peaks)


def with_rounding(half: onnx.ModelProto, *, peaks: bool = False) -> onnx.ModelProto:
    """The FP16 graph as an FP32 graph that rounds as tensor cores do; the argument is left as it is.

    With ``peaks`` it has a further output for each rounded tensor: its largest magnitude before rounding.
    """
    types = element_types(half)
    result = onnx.ModelProto(ir_version=half.ir_version, opset_import=half.opset_import)
    graph = result.graph
    graph.name = half.graph.name
    graph.input.extend(half.graph.input)
    graph.output.extend(half.graph.output)
    graph.node.extend(made for node in half.graph.node for made in _rounded(node, types))
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(values, tensor.name))
        else:
            graph.initializer.append(tensor)
    if peaks:
        _add_peaks(graph)
    return result


def _rounded(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[onnx.NodeProto]:
    output = node.output[0]
    if node.op_type == "Cast" and types[output] == TensorProto.FLOAT:
        yield onnx.helper.make_node("Identity", list(node.input), list(node.output), name=node.name)
    elif node.op_type == "Cast" and types[output] == TensorProto.FLOAT16:
        yield from _round(node.input[0], output)
    elif node.op_type in _ROUNDS and types[output] == TensorProto.FLOAT16:
        exact = onnx.NodeProto()
        exact.CopyFrom(node)
        exact.output[0] = output + _EXACT
        yield exact
        yield from _round(exact.output[0], output)
    else:
        yield node


def _round(exact: str, rounded: str) -> Iterator[onnx.NodeProto]:
    half = rounded + ".half"
    yield onnx.helper.make_node("Cast", [exact], [half], name=half, to=TensorProto.FLOAT16)
    yield onnx.helper.make_node("Cast", [half], [rounded], name=rounded + ".rounded", to=TensorProto.FLOAT)


def _add_peaks(graph: onnx.GraphProto) -> None:
    """``max |x|`` of every exact tensor as a scalar output."""
    for exact in [name for node in graph.node for name in node.output if name.endswith(_EXACT)]:
        size, peak = exact + ".size", exact + _PEAK
        graph.node.append(onnx.helper.make_node("Abs", [exact], [size], name=size))
        graph.node.append(onnx.helper.make_node("ReduceMax", [size], [peak], name=peak, keepdims=0))
        graph.output.append(onnx.helper.make_tensor_value_info(peak, TensorProto.FLOAT, []))
