"""The FP16 graph is strongly typed, keeps softmax and norms in FP32, and answers as the FP32 graph does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

from build.bundle_writer import IMAGENET, cpu_session  # noqa: E402
from build.census import check_contract  # noqa: E402
from build.export import export_onnx  # noqa: E402
from build.fp16 import export_fp16, half_tensors, to_fp16  # noqa: E402
from build.onnx_file import GraphError, element_types, read_model  # noqa: E402
from build.rounding import run_rounded, with_rounding  # noqa: E402
from build.vit import VisionTransformer, ViTConfig  # noqa: E402
from engines.bundle import golden_input, load_bundle  # noqa: E402
from engines.golden import golden_check  # noqa: E402
from engines.onnx_cpu import OnnxCpu  # noqa: E402
from engines.preprocess import preprocess  # noqa: E402

pytestmark = pytest.mark.timeout(120)  # tracing takes seconds of processor time, and a busy machine gives few

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture(scope="module")
def network() -> VisionTransformer:
    torch.manual_seed(1)
    model = VisionTransformer(ViTConfig(layers=3, heads=2, width=64, mlp_width=128))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    return model.eval()


@pytest.fixture(scope="module")
def full(network: VisionTransformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(network, path, fp16_weights=False, temperature=1.7, bias=[0.3, -0.2, 0.0, -1.0, 0.9, 0.0, 0.0])
    return path


@pytest.fixture(scope="module")
def demo_half(demo_bundle: Path) -> onnx.ModelProto:
    """The demo bundle's network, whose weights are stored as float16, as an FP16 graph."""
    return to_fp16(read_model(demo_bundle / "model.onnx"))


def test_every_precision_is_in_the_graph(full: Path, tmp_path: Path) -> None:
    proto = onnx.load(export_fp16(full, tmp_path / "model.fp16.onnx"))
    types = element_types(proto)
    made = Counter((node.op_type, types[node.output[0]]) for node in proto.graph.node)
    for name in ("LayerNormalization", "Softmax", "Gemm", "ReduceMean", "Div"):
        assert made[name, HALF] == 0, name
        assert made[name, FLOAT] > 0, name
    for name in ("MatMul", "Conv", "Gelu", "Mul", "Transpose", "Split", "Concat"):
        assert made[name, FLOAT] == 0, name
        assert made[name, HALF] > 0, name
    assert made["Add", FLOAT] == 1  # the calibration's bias, behind the head
    assert [types[value.name] for value in (*proto.graph.input, *proto.graph.output)] == [FLOAT] * 3
    for node in proto.graph.node:  # strongly typed: no operator mixes what it reads
        floats = {types[name] for name in node.input} & {FLOAT, HALF}
        assert len(floats) <= 1, node.name
    casts = [node.input[0] for node in proto.graph.node if node.op_type == "Cast"]
    assert len(set(casts)) == len(casts)  # none is made twice


def test_census_of_the_demo_network(demo_half: onnx.ModelProto) -> None:
    census = check_contract(demo_half)
    assert (census.opset, census.blocks) == (20, 12)
    assert census.ir_version <= 10
    assert census.operators["LayerNormalization"] == 25
    assert census.operators["Gelu"] == 12
    assert census.operators["Softmax"] == 13
    assert census.operators["MatMul"] == 73
    assert census.half_nodes > 300
    # into each norm and softmax, out of it again; the picture; the head's softmax and last norm stay in FP32
    assert census.operators["Cast"] == 25 + 24 + 12 + 12 + 1 + 1


def test_weights_are_rounded_once_and_the_file_is_half_as_large(full: Path, tmp_path: Path) -> None:
    export_fp16(full, tmp_path / "model.fp16.onnx")
    assert (tmp_path / "model.fp16.onnx").stat().st_size < 0.6 * full.stat().st_size
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(full).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "model.fp16.onnx").graph.initializer}
    halves = [name for name in after if name.endswith(".fp16")]
    assert len(halves) > 20
    for name in halves:
        np.testing.assert_array_equal(after[name], before[name.removesuffix(".fp16")].astype(np.float16))
    assert all(array.dtype == np.float32 for name, array in after.items() if "ln_" in name and "weight" in name)


def test_weights_that_were_stored_as_float16_stay_as_they_are(demo_bundle: Path, demo_half: onnx.ModelProto) -> None:
    stored = {
        t.name.removesuffix(".half"): numpy_helper.to_array(t)
        for t in onnx.load(demo_bundle / "model.onnx").graph.initializer
        if t.data_type == HALF
    }
    halves = {t.name.removesuffix(".fp16"): numpy_helper.to_array(t) for t in demo_half.graph.initializer}
    assert len(stored) > 40
    for name, values in stored.items():
        np.testing.assert_array_equal(halves[name], values)


def pictures(folder: Path, count: int) -> np.ndarray:
    files = sorted((folder / "ham10000" / "images").rglob("*.jpg"))
    chosen = [files[i] for i in np.random.default_rng(5).choice(len(files), count, replace=False)]
    bgr = [cv2.imread(str(path)) for path in chosen]
    return np.concatenate([preprocess(cv2.cvtColor(p, cv2.COLOR_BGR2RGB), IMAGENET) for p in bgr])


def correlations(found: np.ndarray, expected: np.ndarray) -> list[float]:
    return [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in zip(found, expected, strict=True)]


@pytest.mark.parametrize("single", [False, True])
def test_a_card_would_answer_real_pictures_as_fp32_does(single: bool, demo_bundle: Path, shared_data: Path) -> None:
    bundle = load_bundle(demo_bundle)
    images = pictures(shared_data, 24)
    expected = cpu_session(bundle.model_path, 1).run(None, {"images": images})
    half = to_fp16(read_model(bundle.model_path), residual_single=single)
    answer = run_rounded(half, images, threads=1)
    off = np.abs(answer.probabilities - expected[0])
    assert 1e-6 < off.max() < (0.002 if single else 0.005)  # a rounding that changes nothing is none
    np.testing.assert_array_equal(answer.probabilities.argmax(1), expected[0].argmax(1))
    assert min(correlations(answer.attention, expected[1])) > 0.999
    assert answer.highest[1] < 1000


def test_onnx_runtime_runs_the_fp16_graph_behind_the_cpu_backend(
    demo_bundle: Path, demo_half: onnx.ModelProto, tmp_path: Path
) -> None:
    onnx.save(demo_half, tmp_path / "model.onnx")
    bundle = load_bundle(demo_bundle)
    backend = OnnxCpu(cpu_session(tmp_path / "model.onnx", 1))
    golden_check(bundle).check(backend.run(golden_input(bundle)))
    backend.close()


def test_the_residual_in_fp32_is_more_exact(full: Path) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    expected = cpu_session(full, 1).run(None, {"images": images})[0]
    off = {}
    for single in (False, True):
        half = to_fp16(read_model(full), residual_single=single)
        check_contract(half)
        off[single] = np.abs(run_rounded(half, images, 1).probabilities - expected).mean()
    assert 0 < off[True] < off[False]
    sums = set(half_tensors(to_fp16(read_model(full)))) - set(half_tensors(half))
    assert len(sums) >= 6  # two sums in each of three blocks


def test_rounding_is_that_of_tensor_cores(tmp_path: Path) -> None:
    """Products of FP16 numbers summed in FP32 and rounded once, against numpy; and what is too large is infinite."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 5)).astype(np.float16)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["h"], to=HALF), helper.make_node("MatMul", ["h", "w"], ["m"]),
         helper.make_node("Cast", ["m"], ["y"], to=FLOAT)],
        "product",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 5])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    half = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    proto = with_rounding(half)
    onnx.checker.check_model(proto, full_check=True)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    x = rng.standard_normal((4, 64)).astype(np.float32)
    exact = x.astype(np.float16).astype(np.float64) @ weight.astype(np.float64)
    (found,) = cpu_session(tmp_path / "model.onnx", 1).run(None, {"x": x})
    np.testing.assert_array_equal(found, exact.astype(np.float16).astype(np.float32))
    (found,) = cpu_session(tmp_path / "model.onnx", 1).run(None, {"x": x * 15_000})
    assert np.isinf(found).any()
    assert np.isfinite(found).any()


def test_a_weight_beyond_fp16_is_an_error_that_names_it(full: Path, tmp_path: Path) -> None:
    proto = onnx.load(full)
    tensor = next(t for t in proto.graph.initializer if t.name.endswith("conv_proj.weight"))
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] = -65520
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(GraphError, match=r"conv_proj\.weight: 65520 does not fit into FP16, which ends at 65504"):
        to_fp16(proto)


def test_activations_beyond_fp16_show_as_they_do_on_a_card(full: Path) -> None:
    proto = onnx.load(full)
    for tensor in proto.graph.initializer:
        if tensor.name.endswith(("mlp.3.bias", "conv_proj.bias")):
            values = numpy_helper.to_array(tensor) * 0 + 40_000
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    images = np.zeros((1, 3, 224, 224), np.float32)
    assert run_rounded(to_fp16(proto), images, 1).highest[1] == pytest.approx(80_000, rel=0.02)
    single = run_rounded(to_fp16(proto, residual_single=True), images, 1)
    assert single.highest[1] == pytest.approx(40_000, rel=0.02)
    assert np.isfinite(single.probabilities).all()


def test_a_foreign_graph_is_refused(full: Path, tmp_path: Path) -> None:
    proto = onnx.load(full)
    next(node for node in proto.graph.node if node.op_type == "Gelu").op_type = "Erf"
    with pytest.raises(GraphError, match="operators that this exporter does not make: Erf"):
        to_fp16(proto)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(GraphError, match=r"empty\.onnx: the file is empty"):
        export_fp16(tmp_path / "empty.onnx", tmp_path / "model.fp16.onnx")
    assert not (tmp_path / "model.fp16.onnx").exists()
