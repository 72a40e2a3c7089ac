"""The exported graph gives torch's numbers, stays portable, and is small with float16 weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from build.bundle_writer import cpu_session
from build.export import Answering, export_onnx
from build.random_bundle import random_model
from build.vit import VIT_TI_16, VisionTransformer, ViTConfig

pytestmark = pytest.mark.timeout(120)  # tracing takes seconds of processor time, and a busy machine gives few

SMALL = ViTConfig(image_size=64, layers=2, heads=2, width=64, mlp_width=128)
BIAS = [0.3, -0.2, 0.0, -1.0, 0.9, 0.0, 0.0]


@pytest.fixture(scope="module")
def model() -> VisionTransformer:
    torch.manual_seed(1)
    network = VisionTransformer(SMALL)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    return network.eval()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The demo bundle's architecture in full."""
    path = tmp_path_factory.mktemp("tiny") / "model.onnx"
    export_onnx(random_model(VIT_TI_16), path, fp16_weights=True)
    assert path.stat().st_size <= 16_000_000
    return onnx.load(path)


@pytest.mark.requirement("R-ANS-5")
@pytest.mark.parametrize(("fp16", "tolerance"), [(False, 1e-5), (True, 5e-3)])
def test_probabilities_and_attention_equal_those_of_torch(
    model: VisionTransformer, tmp_path: Path, fp16: bool, tolerance: float
) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(model, path, fp16_weights=fp16, temperature=1.7, bias=BIAS)
    session = cpu_session(path, threads=1)
    assert [output.name for output in session.get_outputs()] == ["probabilities", "attention"]
    for count in (1, 3):  # the graph was traced with two images; any number goes
        images = torch.randn(count, 3, 64, 64)
        probabilities, attention = session.run(None, {"images": images.numpy()})
        with torch.inference_mode():
            logits, heads = model(images)
            expected = (logits / 1.7 + torch.tensor(BIAS)).softmax(dim=1).numpy()
        np.testing.assert_allclose(probabilities, expected, atol=tolerance)
        np.testing.assert_allclose(attention, heads.mean(dim=1).numpy(), atol=tolerance)
        assert (attention.sum(axis=(1, 2)) <= 1 + 1e-5).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_float16_weights_halve_the_file_and_are_rounded_once(model: VisionTransformer, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "full.onnx", fp16_weights=False)
    export_onnx(model, tmp_path / "half.onnx", fp16_weights=True)
    full, half = ((tmp_path / name).stat().st_size for name in ("full.onnx", "half.onnx"))
    assert half < 0.65 * full
    rounded = VisionTransformer(SMALL)
    state = model.state_dict()
    rounded.load_state_dict({k: v.half().float() if v.numel() >= 4096 else v for k, v in state.items()})
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = Answering(rounded).eval()(images)[0].numpy()
    probabilities = cpu_session(tmp_path / "half.onnx", threads=1).run(["probabilities"], {"images": images.numpy()})
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-5)


def test_a_weight_beyond_float16_is_an_error(tmp_path: Path) -> None:
    network = random_model(SMALL)
    with torch.no_grad():
        network.conv_proj.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"conv_proj\.weight.*float16"):
        export_onnx(network, tmp_path / "model.onnx", fp16_weights=True)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(("temperature", "bias"), [(0.0, None), (-1.0, None), (1.0, [0.0] * 6)])
def test_a_wrong_head_is_an_error(temperature: float, bias: list[float] | None) -> None:
    with pytest.raises(ValueError, match=r"temperature|bias"):
        Answering(VisionTransformer(SMALL), temperature, bias)


def test_graph_is_portable_and_keeps_its_fused_operators(tiny: onnx.ModelProto) -> None:
    assert {entry.domain: entry.version for entry in tiny.opset_import} == {"": 20}
    assert tiny.ir_version <= 10
    census = Counter(node.op_type for node in tiny.graph.node)
    assert census["LayerNormalization"] == 25
    assert census["Gelu"] == 12
    assert census["Softmax"] == 13  # one attention in each block, one for the answer
    assert census["Conv"] == 1
    assert all(node.domain == "" for node in tiny.graph.node)
    shapes = [[d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in tiny.graph.output]
    assert shapes == [["batch", 7], ["batch", 14, 14]]


def test_last_block_computes_no_square_attention(tiny: onnx.ModelProto) -> None:
    inferred = onnx.shape_inference.infer_shapes(tiny, strict_mode=True, data_prop=True)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    squares = [n for n in tiny.graph.node if n.op_type == "Softmax" and shapes.get(n.output[0], [])[-2:] == [197, 197]]
    rows = [n for n in tiny.graph.node if n.op_type == "Softmax" and shapes.get(n.output[0], [])[-2:] == [1, 197]]
    assert (len(squares), len(rows)) == (11, 1)


def test_graph_names_nothing_of_the_machine_that_made_it(tiny: onnx.ModelProto) -> None:
    content = tiny.SerializeToString()
    for trace in (b".py", b"stack_trace", b"site-packages", str(Path(__file__).parents[2]).encode()):
        assert trace not in content


def test_without_attention_the_probabilities_stay(model: VisionTransformer, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "with.onnx", fp16_weights=False)
    export_onnx(model, tmp_path / "without.onnx", fp16_weights=False, attention=False)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    full = cpu_session(tmp_path / "with.onnx", threads=1).run(["probabilities"], {"images": images})[0]
    session: onnxruntime.InferenceSession = cpu_session(tmp_path / "without.onnx", threads=1)
    assert [output.name for output in session.get_outputs()] == ["probabilities"]
    np.testing.assert_allclose(session.run(None, {"images": images})[0], full, atol=1e-6)
