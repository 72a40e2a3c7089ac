"""A graph that is not the promised one is told apart, whatever differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx import TensorProto, helper  # noqa: E402

from build.census import check_contract, take_census  # noqa: E402
from build.export import export_onnx  # noqa: E402
from build.fp16 import to_fp16  # noqa: E402
from build.onnx_file import GraphError, read_model  # noqa: E402
from build.random_bundle import random_model  # noqa: E402
from build.vit import Encoder, ViTConfig  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # tracing takes seconds of processor time, and a busy machine gives few

SIZES = ViTConfig(layers=2, heads=2, width=32, mlp_width=64)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(random_model(SIZES), path, fp16_weights=False)
    return read_model(path)


def copy_of(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def node_of(proto: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.op_type == kind)


def test_the_promised_graph_passes_in_both_precisions(full: onnx.ModelProto) -> None:
    census = check_contract(full)
    assert (census.blocks, census.half_nodes, census.opset, census.ir_version) == (2, 0, 20, 10)
    assert census.operators["LayerNormalization"] == 5
    half = check_contract(to_fp16(full))
    assert (half.blocks, half.opset) == (2, 20)
    assert half.half_nodes > 40


def test_the_demo_bundles_graph_is_the_promised_one(demo_bundle: Path) -> None:
    census = check_contract(read_model(demo_bundle / "model.onnx"))
    assert (census.blocks, census.operators["LayerNormalization"], census.operators["Gelu"]) == (12, 25, 12)


def rename_output(proto: onnx.ModelProto) -> None:
    node_of(proto, "ReduceMean").output[0] = proto.graph.output[1].name = "map"


def swap_outputs(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(proto.graph.output[0])
    del proto.graph.output[0]


def further_output(proto: onnx.ModelProto) -> None:
    """The attention of a whole block: 197 x 197 numbers for each head, which nobody reads."""
    square = node_of(proto, "Softmax").output[0]
    proto.graph.output.append(helper.make_tensor_value_info(square, TensorProto.FLOAT, None))


def fixed_batch(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1


def half_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def nine_classes(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9


def oblong_picture(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4


def decomposed_norm(proto: onnx.ModelProto) -> None:
    node_of(proto, "LayerNormalization").op_type = "InstanceNormalization"


def further_parts(proto: onnx.ModelProto) -> None:
    proto.graph.node.insert(0, helper.make_node("Sqrt", ["model.conv_proj.weight"], ["root"]))


def foreign_domain(proto: onnx.ModelProto) -> None:
    node_of(proto, "Split").domain = "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_output, r"outputs \['probabilities', 'map'\], where \['probabilities', 'attention'\] are due"),
        (swap_outputs, r"outputs \['attention', 'probabilities'\]"),
        (further_output, r"outputs \['probabilities', 'attention', '\w+'\]"),
        (fixed_batch, r"output probabilities is \[1, 7\]"),
        (half_output, "output probabilities is not float32"),
        (nine_classes, r"output probabilities is \['batch', 9\], where \['batch', 7\] is due"),
        (oblong_picture, r"input images is \['batch', 4, 224, 224\]"),
        (decomposed_norm, "4 LayerNormalization for 5"),
        (further_parts, "has Sqrt, parts of a decomposed operator"),
        (foreign_domain, r"operators of com\.microsoft"),
    ],
)
def test_another_graph_is_refused(
    change: Callable[[onnx.ModelProto], None], message: str, full: onnx.ModelProto
) -> None:
    changed = copy_of(full)
    change(changed)
    with pytest.raises(GraphError, match=message):
        check_contract(changed)


def test_a_last_block_that_attends_from_every_token_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The textbook's last block: right answers, and 196 rows of dead work."""

    def every_row(encoder: Encoder, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = tokens + encoder.pos_embedding
        for block in encoder.layers.values():
            x = block(x)
        rows = (x[:, :1] @ x.transpose(1, 2))[:, None, 0, 1:].expand(-1, 2, -1)
        return encoder.ln(x[:, 0]), rows

    monkeypatch.setattr(Encoder, "forward", every_row)
    export_onnx(random_model(SIZES), tmp_path / "model.onnx", fp16_weights=False)
    with pytest.raises(GraphError, match="of 2 blocks, 2 attend from all 197 tokens and 0 from one, where 1 and 1"):
        check_contract(read_model(tmp_path / "model.onnx"))


def read_through_cast(proto: onnx.ModelProto, kind: str, to: int) -> None:
    """Make the first node of a kind read all its inputs in another precision, and give out what it gave out."""
    position, node = next((i, n) for i, n in enumerate(proto.graph.node) if n.op_type == kind)
    for index, name in enumerate(node.input):
        node.input[index] = name + ".cast"
        proto.graph.node.insert(position, helper.make_node("Cast", [name], [name + ".cast"], to=to))
    result, node.output[0] = node.output[0], "first"
    back = TensorProto.FLOAT if to == TensorProto.FLOAT16 else TensorProto.FLOAT16
    after = position + len(node.input) + 1
    proto.graph.node.insert(after, helper.make_node("Cast", ["first"], [result], to=back))


def test_a_norm_in_fp16_is_refused(full: onnx.ModelProto) -> None:
    half = to_fp16(full)
    read_through_cast(half, "LayerNormalization", TensorProto.FLOAT16)
    with pytest.raises(GraphError, match=r"LayerNormalization \w+ is not in FP32 throughout"):
        check_contract(half)


def test_a_softmax_in_fp16_is_refused(full: onnx.ModelProto) -> None:
    half = to_fp16(full)
    read_through_cast(half, "Softmax", TensorProto.FLOAT16)
    with pytest.raises(GraphError, match=r"Softmax \w+ is not in FP32 throughout"):
        check_contract(half)


def test_a_product_in_fp32_is_refused(full: onnx.ModelProto) -> None:
    half = to_fp16(full)
    read_through_cast(half, "Conv", TensorProto.FLOAT)
    with pytest.raises(GraphError, match=r"Conv \w+ is not in FP16 throughout"):
        check_contract(half)


def test_the_census_of_a_graph_without_precisions_counts_none(full: onnx.ModelProto) -> None:
    assert take_census(full).half_nodes == 0
