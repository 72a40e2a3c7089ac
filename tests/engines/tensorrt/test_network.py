"""The graph becomes a network, or a sentence says why not; the real parser of TensorRT-RTX takes part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engines.tensorrt.listening import Heard, make_logger
from engines.tensorrt.network import Parsed, check_precisions, hold_in_single, layers_of, parse_graph
from engines.tensorrt.opset17 import to_opset_17
from engines.tensorrt.plans import PlanError
from engines.tensorrt.versions import TensorRT, describe, find_tensorrt
from tests.fakes.small_vit import BLOCKS, SIZE, graphs, onnx, small_vit
from tests.fakes.tensorrt_builder import FakeTensorRT

SINGLE, HALF = graphs()
_kept: list[Any] = []


def parse(tensorrt: TensorRT, graph: bytes, *, strong: bool = True, size: int = SIZE) -> Parsed:
    heard = Heard()
    logger = make_logger(tensorrt.module, heard)
    builder = tensorrt.module.Builder(logger)
    _kept.extend((logger, builder))  # TensorRT keeps pointers to them
    return parse_graph(tensorrt, builder, logger, graph, name="m.onnx", size=size, strong=strong, heard=heard)


@pytest.fixture(scope="module")
def real() -> TensorRT:
    pytest.importorskip("tensorrt_rtx_bindings")
    return find_tensorrt(experimental=True)


def changed(change: Callable[[Any], object], base: bytes = SINGLE) -> bytes:
    proto = onnx.load_from_string(base)
    change(proto.graph)
    return bytes(proto.SerializeToString())


def count(parsed: Parsed, kind: str, dtype: str) -> int:
    return sum(
        layer.type.name == kind and layer.get_output(0).dtype.name == dtype for layer in layers_of(parsed.network)
    )


def test_the_fp16_graph_is_strongly_typed_as_it_says(real: TensorRT) -> None:
    parsed = parse(real, HALF)
    check_precisions(real, parsed.network, "m.onnx")
    assert count(parsed, "NORMALIZATION", "FLOAT") == 2 * BLOCKS + 1
    assert count(parsed, "SOFTMAX", "FLOAT") == BLOCKS + 1
    assert count(parsed, "MATRIX_MULTIPLY", "HALF") == 8 * BLOCKS
    assert count(parsed, "CONVOLUTION", "HALF") == 1
    assert count(parsed, "NORMALIZATION", "HALF") == count(parsed, "SOFTMAX", "HALF") == 0
    assert parsed.notes == ()


def test_an_fp32_graph_is_not_taken_for_fp16(real: TensorRT) -> None:
    with pytest.raises(PlanError, match="no matrix product is in FP16"):
        check_precisions(real, parse(real, SINGLE).network, "m.onnx")


def test_softmax_and_norm_in_fp16_are_refused(real: TensorRT) -> None:
    """Weights made FP16 wholesale, as some converters do it."""

    def all_half(graph: Any) -> None:
        for index, tensor in enumerate(graph.initializer):
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name))
        ends = {"probabilities": "p16", "attention": "a16"}
        for node in graph.node:
            node.input[:] = ["i16" if name == "images" and node.op_type == "Conv" else name for name in node.input]
            node.output[:] = [ends.get(name, name) for name in node.output]
        make = onnx.helper.make_node
        casts = [make("Cast", ["images"], ["i16"], to=10)]
        nodes = [*casts, *graph.node, *(make("Cast", [half], [name], to=1) for name, half in ends.items())]
        del graph.node[:]
        graph.node.extend(nodes)

    with pytest.raises(PlanError, match="LayerNormalization in FP32"):
        check_precisions(real, parse(real, changed(all_half)).network, "m.onnx")


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (b"", "the file is empty"),
        (b"\0", "is no ONNX graph, or an empty one"),
        (b"hello, this is a text and no graph", "is no ONNX graph, or an empty one"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no ONNX graph"),
        (bytes(1000), "is no ONNX graph"),
        (SINGLE[: len(SINGLE) // 2], "is no ONNX graph, or only a part of one"),
        (SINGLE[:-5], "is no ONNX graph, or only a part of one"),
        (SINGLE[:10], "is no ONNX graph, or only a part of one"),
    ],
)
def test_what_is_no_graph_is_refused_although_the_parser_says_yes(real: TensorRT, graph: bytes, words: str) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        parse(real, graph)
    assert str(caught.value).startswith("m.onnx: ")
    assert "export the bundle again" in str(caught.value)


def test_a_damaged_name_is_refused(real: TensorRT) -> None:
    graph = SINGLE.replace(b"probabilities", b"\xaf\x9eobabilities")
    with pytest.raises(PlanError, match=r"no ONNX graph|no text"):
        parse(real, graph)


def rename(graph: Any) -> None:
    graph.output[0].name = "scores"
    for node in graph.node:
        node.output[:] = ["scores" if name == "probabilities" else name for name in node.output]


def fixed_batch(graph: Any) -> None:
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def unknown_operator(graph: Any) -> None:
    next(node for node in graph.node if node.op_type == "Gelu").op_type = "Multinomial"


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (changed(rename), r"outputs \['scores', 'attention'\], where \['probabilities', 'attention'\] are due"),
        (changed(lambda graph: graph.output.pop()), r"outputs \['probabilities'\], where"),
        (changed(fixed_batch), r"images is \[2, 3, 56, 56\], where \[-1, 3, 56, 56\] is due"),
        (small_vit(classes=9).SerializeToString(), r"probabilities is \[-1, 9\], where \[-1, 7\] is due"),
        (changed(unknown_operator), r"does not take node \w+ \(Multinomial\)|does not take the graph"),
    ],
)
def test_another_models_graph_is_refused(real: TensorRT, graph: bytes, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        parse(real, graph)


def test_the_manifests_image_size_must_be_the_graphs(real: TensorRT) -> None:
    with pytest.raises(PlanError, match=r"images is \[-1, 3, 56, 56\], where \[-1, 3, 224, 224\] is due"):
        parse(real, HALF, size=224)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_weakly_typed_networks_hold_norms_and_softmax_in_fp32(version: str) -> None:
    tensorrt = describe(FakeTensorRT(version))
    graph = to_opset_17(SINGLE, name="m.onnx") if tensorrt.old_parser else SINGLE
    parsed = parse(tensorrt, graph, strong=False)
    held = hold_in_single(tensorrt, parsed.network, "m.onnx")
    assert held == (2 * BLOCKS + 1) + (BLOCKS + 1)
    free = [layer for layer in layers_of(parsed.network) if layer.type.name not in {"NORMALIZATION", "SOFTMAX"}]
    assert not any(layer._output_type for layer in free)


def test_a_weak_network_without_norms_to_hold_is_refused() -> None:
    tensorrt = describe(FakeTensorRT("10.3.0"))
    parsed = parse(tensorrt, small_vit(norm=False).SerializeToString(), strong=False)
    with pytest.raises(PlanError, match=r"sees no LayerNormalization to hold in FP32.*--precision fp32"):
        hold_in_single(tensorrt, parsed.network, "m.onnx")


def test_the_parser_of_8_6_is_given_what_it_takes() -> None:
    old = describe(FakeTensorRT("8.6.1"))
    with pytest.raises(
        PlanError, match=r"TensorRT 8\.6\.1 does not take node \d+: No importer registered for op: Gelu"
    ):
        parse(old, SINGLE, strong=False)
    assert parse(old, to_opset_17(SINGLE, name="m.onnx"), strong=False).layers > 0


def test_no_network_is_told() -> None:
    fake = FakeTensorRT("10.3.0")
    fake.refuse["network"] = ""
    with pytest.raises(PlanError, match=r"TensorRT 10\.3\.0 made no network"):
        parse(describe(fake), HALF)


def test_a_name_of_another_version_cannot_be_used_on_the_fakes() -> None:
    fake = FakeTensorRT("11.4.0")
    parsed = parse(describe(fake), HALF)
    layer = next(layers_of(parsed.network))
    with pytest.raises(AttributeError, match="ILayer has no precision"):
        layer.precision = fake.DataType.FLOAT  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="ILayer has no set_output_type"):
        layer.set_output_type(0, fake.DataType.FLOAT)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        fake.BuilderFlag.FP16  # type: ignore[attr-defined] # noqa: B018
