"""Counts what a graph is made of, and says whether it is the graph that devices are promised.

The promise: one input and two outputs by name; operators that runtimes have fast kernels for kept whole; and in an FP16
graph a precision for every node. A newer exporter that decomposes LayerNormalization would still give right answers in
FP32, slowly, and wrong ones in FP16; so this is checked at every export, not only in tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import TensorProto

from build.fp16 import PRODUCTS, SINGLE
from build.onnx_file import GraphError, element_types, shapes, side_lengths
from engines.classes import CLASSES

INPUT: Final = "images"
OUTPUTS: Final = ("probabilities", "attention")
_FOREIGN: Final = "; this software's exporter makes no such graph: export the checkpoint again"


@dataclass(frozen=True)
class Census:
    """What a graph is made of; ``blocks`` is the number of transformer blocks, ``half_nodes`` of nodes in FP16."""

    opset: int
    ir_version: int
    operators: Mapping[str, int]
    blocks: int
    half_nodes: int


def take_census(proto: onnx.ModelProto) -> Census:
    """Count a graph's operators."""
    operators = Counter(node.op_type for node in proto.graph.node)
    types = element_types(proto)
    return Census(
        opset=max((entry.version for entry in proto.opset_import), default=0),
        ir_version=proto.ir_version,
        operators=dict(sorted(operators.items())),
        blocks=operators["Gelu"],
        half_nodes=sum(types[node.output[0]] == TensorProto.FLOAT16 for node in proto.graph.node),
    )


def check_contract(proto: onnx.ModelProto, grid: int = 14) -> Census:
    """Check that a graph is the promised one.

    Args:
        proto: The graph.
        grid: Patches along one side of the picture.

    Returns:
        Its census.

    Raises:
        GraphError: naming what differs.
    """
    _check_ends(proto.graph, grid)
    if domains := sorted({node.domain for node in proto.graph.node if node.domain}):
        raise GraphError(f"the graph has operators of {', '.join(domains)}, which TensorRT does not know{_FOREIGN}")
    census = take_census(proto)
    _check_operators(census)
    _check_attention(proto, census.blocks, grid)
    if census.half_nodes:
        _check_precisions(proto)
    return census


def _check_ends(graph: onnx.GraphProto, grid: int) -> None:
    """Names, types and shapes of input and outputs."""
    size = None
    found = [(value.name, value.type.tensor_type.elem_type, side_lengths(value)) for value in graph.input]
    if len(found) == 1 and len(found[0][2]) == 4:
        size = found[0][2][3]
    wanted_ends = (
        ("input", graph.input, [(INPUT, (3, size, size))]),
        ("output", graph.output, [(OUTPUTS[0], (len(CLASSES),)), (OUTPUTS[1], (grid, grid))]),
    )
    for end, values, wanted in wanted_ends:
        names = [value.name for value in values]
        if names != [name for name, _ in wanted]:
            due = [name for name, _ in wanted]
            raise GraphError(f"the graph has the {end}s {names}, where {due} are due{_FOREIGN}")
        for value, (name, sides) in zip(values, wanted, strict=True):
            shape = side_lengths(value)
            if value.type.tensor_type.elem_type != TensorProto.FLOAT:
                raise GraphError(f"the {end} {name} is not float32{_FOREIGN}")
            if shape[1:] != sides or not isinstance(shape[0], str):
                raise GraphError(f"the {end} {name} is {list(shape)}, where {['batch', *sides]} is due{_FOREIGN}")


def _check_operators(census: Census) -> None:
    """Normalisation, activation and softmax are whole."""
    blocks, found = census.blocks, census.operators
    wanted = {
        "LayerNormalization": 2 * blocks + 1,
        "Gelu": blocks,
        "Softmax": blocks + 1,
        "Conv": 1,
        "Gemm": 1,
        "ReduceMean": 1,
    }
    wrong = [f"{found.get(name, 0)} {name} for {due}" for name, due in wanted.items() if found.get(name) != due]
    if blocks == 0 or wrong:
        raise GraphError(f"the graph has {', '.join(wrong) or 'no Gelu'}{_FOREIGN}")
    parts = sorted(set(found) & {"Erf", "Tanh", "Pow", "Sqrt", "Reciprocal", "Exp", "ReduceSum", "ReduceMax"})
    if parts:
        raise GraphError(f"the graph has {', '.join(parts)}, parts of a decomposed operator{_FOREIGN}")


def _check_attention(proto: onnx.ModelProto, blocks: int, grid: int) -> None:
    """All blocks but the last attend from every token; the last from the class token alone."""
    tokens = grid * grid + 1
    known = shapes(proto)
    ends = [known.get(node.output[0], ())[-2:] for node in proto.graph.node if node.op_type == "Softmax"]
    squares, rows = ends.count((tokens, tokens)), ends.count((1, tokens))
    if (squares, rows) != (blocks - 1, 1):
        raise GraphError(
            f"of {blocks} blocks, {squares} attend from all {tokens} tokens and {rows} from one, where {blocks - 1}"
            f" and 1 are due{_FOREIGN}"
        )


def _check_precisions(proto: onnx.ModelProto) -> None:
    """In an FP16 graph: products in FP16, softmax and LayerNormalization in FP32 from input to output."""
    types = element_types(proto)
    for node in proto.graph.node:
        found = {types[name] for name in (*node.input, *node.output) if name}
        if node.op_type in SINGLE and found != {TensorProto.FLOAT}:
            raise GraphError(f"{node.op_type} {node.name} is not in FP32 throughout{_FOREIGN}")
        if node.op_type in PRODUCTS and found != {TensorProto.FLOAT16}:
            raise GraphError(f"{node.op_type} {node.name} is not in FP16 throughout{_FOREIGN}")
