"""From an ONNX graph to TensorRT's network: parsed, held against the contract, and its precisions made sure of.

That the parser says "yes" proves nothing: it takes an empty file, a text or a picture for a network without layers
(seen with TensorRT-RTX 1.7). What it made is looked at afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from engines.classes import CLASSES
from engines.golden import GRID
from engines.tensorrt.listening import Heard, clean
from engines.tensorrt.plans import PlanError
from engines.tensorrt.versions import TensorRT

INPUT: Final = "images"
PROBABILITIES: Final = "probabilities"
ATTENTION: Final = "attention"
_EXPORT: Final = "export the bundle again with dermascan engine export"
_SHOWN: Final = 3


@dataclass(frozen=True)
class Parsed:
    """A network and what it must not outlive: old parsers own the weights that the network points to."""

    network: Any
    parser: Any
    graph: bytes
    layers: int
    notes: tuple[str, ...] = ()


def parse_graph(
    tensorrt: TensorRT, builder: Any, logger: Any, graph: bytes, *, name: str, size: int, strong: bool, heard: Heard
) -> Parsed:
    """Make a network of an ONNX graph.

    Args:
        tensorrt: which TensorRT.
        builder: its builder.
        logger: its logger.
        graph: the ONNX file's bytes, as they were checked against the manifest.
        name: the file, for messages.
        size: side length of the input images in pixels.
        strong: make a strongly typed network.
        heard: what the logger hears.

    Raises:
        PlanError: it is no ONNX graph, one that this TensorRT does not take, or not one of our models.
    """
    if not graph:
        raise PlanError(f"{name}: the file is empty; {_EXPORT}")
    network = _empty_network(tensorrt, builder, strong=strong, heard=heard)
    parser = tensorrt.module.OnnxParser(network, logger)
    try:
        if not parser.parse(graph):
            raise PlanError(f"{name}: {_parser_errors(tensorrt, parser, heard)}")
        if network.num_layers == 0:
            raise PlanError(f"{name}: is no ONNX graph, or an empty one; {_EXPORT}")
        _check_contract(tensorrt, network, name, size)
    except UnicodeDecodeError as error:  # a damaged name, which pybind11 cannot make a text of
        raise PlanError(f"{name}: holds names that are no text: it is damaged; {_EXPORT}") from error
    return Parsed(network, parser, graph, network.num_layers, tuple(clean(text) for text in heard.warnings))


def _empty_network(tensorrt: TensorRT, builder: Any, *, strong: bool, heard: Heard) -> Any:
    kinds = tensorrt.module.NetworkDefinitionCreationFlag
    flags = 0
    if strong:
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    if tensorrt.explicit_batch:
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    if network is None:
        raise PlanError(f"{tensorrt.label} made no network: {heard.why()}")
    if strong and not network.get_flag(kinds.STRONGLY_TYPED):
        raise PlanError(f"{tensorrt.label} made a weakly typed network where a strongly typed one was asked for")
    return network


def _parser_errors(tensorrt: TensorRT, parser: Any, heard: Heard) -> str:
    """What the parser did not take, in words."""
    count = parser.num_errors
    if count == 0:
        return f"{tensorrt.label} does not take the graph: {heard.why()}"
    errors = [parser.get_error(index) for index in range(count)]
    if any(error.code() == tensorrt.module.ErrorCode.MODEL_DESERIALIZE_FAILED for error in errors):
        return f"is no ONNX graph, or only a part of one; {_EXPORT}"
    told = list(dict.fromkeys(_parser_error(error) for error in errors))
    more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return f"{tensorrt.label} does not take {'; '.join(told[:_SHOWN])}{more}; update TensorRT, or {_EXPORT}"


def _parser_error(error: Any) -> str:
    where = "the graph"
    if error.node() >= 0:  # 8.6 tells a node by its number alone
        kind = f" ({error.node_operator()})" if hasattr(error, "node_operator") and error.node_operator() else ""
        called = error.node_name() if hasattr(error, "node_name") and error.node_name() else str(error.node())
        where = f"node {called}{kind}"
    return f"{where}: {clean(error.desc().replace('Assertion failed:', ''))}"


def _shape(tensor: Any) -> tuple[int, ...] | None:
    """A tensor's shape, -1 where it is free; None where TensorRT could not work it out."""
    try:
        return tuple(tensor.shape)
    except ValueError:
        return None


def _check_contract(tensorrt: TensorRT, network: Any, name: str, size: int) -> None:
    """Names, types and shapes of input and outputs are those of every bundle's model."""
    single = tensorrt.module.DataType.FLOAT
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    due: dict[str, dict[str, tuple[int, ...]]] = {
        "input": {INPUT: (-1, 3, size, size)},
        "output": {PROBABILITIES: (-1, len(CLASSES)), ATTENTION: (-1, GRID, GRID)},
    }
    for end, tensors in (("input", inputs), ("output", outputs)):
        names = [tensor.name for tensor in tensors]
        if sorted(names) != sorted(due[end]):
            raise PlanError(f"{name}: the graph has the {end}s {names}, where {list(due[end])} are due; {_EXPORT}")
        for tensor in tensors:
            if tensor.dtype != single:
                raise PlanError(f"{name}: {tensor.name} is {tensor.dtype}, where float32 is due; {_EXPORT}")
            shape, wanted = _shape(tensor), due[end][tensor.name]
            if shape != wanted:
                found = "of unknown shape" if shape is None else list(shape)
                raise PlanError(
                    f"{name}: {tensor.name} is {found}, where {list(wanted)} is due (-1: any number of pictures);"
                    f" {_EXPORT}"
                )


def layers_of(network: Any) -> Iterator[Any]:
    """A network's layers, in order."""
    for index in range(network.num_layers):
        yield network.get_layer(index)


def check_precisions(tensorrt: TensorRT, network: Any, name: str) -> None:
    """In a strongly typed FP16 network: matrix products in FP16, softmax and LayerNormalization in FP32.

    What TensorRT is silently given in FP32 it silently builds in FP32, at half the speed.

    Raises:
        PlanError: naming what is in another precision.
    """
    kinds, types = tensorrt.module.LayerType, tensorrt.module.DataType
    outputs = ((layer.type, layer.get_output(0)) for layer in layers_of(network))
    found = Counter((kind, output.dtype) for kind, output in outputs if output is not None)
    if not found[kinds.MATRIX_MULTIPLY, types.HALF]:
        raise PlanError(f"{name}: no matrix product is in FP16; {_EXPORT}")
    for kind, words in ((kinds.NORMALIZATION, "LayerNormalization"), (kinds.SOFTMAX, "softmax")):
        if not found[kind, types.FLOAT]:
            raise PlanError(f"{name}: the graph has no {words} in FP32; {_EXPORT}")
        if found[kind, types.HALF]:
            raise PlanError(
                f"{name}: {found[kind, types.HALF]} of its {words} layers are in FP16, where they lose digits and"
                f" overflow; {_EXPORT}"
            )


def hold_in_single(tensorrt: TensorRT, network: Any, name: str) -> int:
    """In a weakly typed network, hold softmax and LayerNormalization in FP32; returns how many layers are held.

    With ``OBEY_PRECISION_CONSTRAINTS`` the builder then chooses FP16 for the others alone. How a normalisation computes
    inside (``INormalizationLayer.compute_precision``) is FP32 unless it is changed.

    Raises:
        PlanError: the graph's LayerNormalization was taken apart, so that its parts cannot be held.
    """
    kinds, single = tensorrt.module.LayerType, tensorrt.module.DataType.FLOAT
    held: Counter[Any] = Counter()
    for layer in layers_of(network):
        if layer.type not in {kinds.NORMALIZATION, kinds.SOFTMAX}:
            continue
        layer.precision = single
        layer.set_output_type(0, single)
        held[layer.type] += 1
    for kind, words in ((kinds.NORMALIZATION, "LayerNormalization"), (kinds.SOFTMAX, "softmax")):
        if not held[kind]:
            raise PlanError(
                f"{name}: {tensorrt.label} sees no {words} to hold in FP32, and in FP16 it would overflow; {_EXPORT},"
                " or compile with --precision fp32"
            )
    return held.total()
