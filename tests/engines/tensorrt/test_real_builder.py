"""A real builder at work: TensorRT-RTX 1.7, which has TensorRT 11's interface and builds without a GPU present.

It is another product: what it proves is the way from a bundle to a plan, the names, and how real errors read. No number
of a plan is proved here, since no plan runs without its GPU.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.backend import BundleError
from engines.bundle import Bundle, load_bundle
from engines.tensorrt.apart import Request, compile_apart
from engines.tensorrt.builder import CompileOrder, compile_plan, plan_key
from engines.tensorrt.gpu import Gpu, NoGpu
from engines.tensorrt.network import layers_of
from engines.tensorrt.plans import PlanError, find_plan
from engines.tensorrt.versions import NoTensorRT, TensorRT, find_tensorrt
from tests.fakes.bundles import copy_bundle, replace_file
from tests.fakes.small_vit import SIZE, graphs, onnx, small_bundle
from tests.fakes.tensorrt_builder import NAMES

trt = pytest.importorskip("tensorrt_rtx_bindings")

ADA = Gpu("NVIDIA RTX 4000 Ada Generation", (8, 9), 20 << 30, "580.95")
TURING = Gpu("NVIDIA GeForce RTX 2080", (7, 5), 8 << 30, "580.95")
HOPPER = Gpu("NVIDIA H100", (9, 0), 80 << 30, "580.95")
PLAIN = CompileOrder()


def apart(bundle: Path, cache: Path, order: CompileOrder = PLAIN, **more: Any) -> Request:
    """A request for a process that need not be considerate."""
    return Request(bundle, cache, order, niceness=0, **more)


@pytest.fixture(scope="module")
def tensorrt() -> TensorRT:
    return find_tensorrt(experimental=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small") / "bundle", demo_bundle)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_strongly_typed_fp16_plan_is_built_and_found_again(tensorrt: TensorRT, bundle: Bundle, cache: Path) -> None:
    seen: list[tuple[str, float | None]] = []
    plan = compile_plan(
        bundle, PLAIN, lambda what, share: seen.append((what, share)), cache=cache, tensorrt=tensorrt, gpu=ADA
    )
    data = plan.read()
    assert data[:4] == b"vtrt"  # TensorRT-RTX's own mark
    assert len(data) > len(graphs()[1])
    assert plan.key.version == trt.__version__
    assert find_plan(cache, plan_key(bundle, PLAIN, tensorrt=tensorrt, gpu=ADA)) == plan
    assert (plan.key.source, plan.key.flags["typing"], plan.key.product) == (
        "model.fp16.onnx",
        "strong",
        "tensorrt_rtx",
    )
    shares = [share for _, share in seen if share is not None]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5


def test_fp16_weights_are_half_the_plans_growth(tensorrt: TensorRT, demo_bundle: Path, tmp_path: Path) -> None:
    """A ViT-Ti as it is exported. A plan that was silently built in FP32 would have twice the weights."""
    from build.fp16 import export_fp16

    folder = copy_bundle(demo_bundle, tmp_path / "bundle")
    half = export_fp16(folder / "model.onnx", tmp_path / "half.onnx")
    replace_file(folder, "model.fp16.onnx", half.read_bytes())
    plan = compile_plan(load_bundle(folder), PLAIN, cache=tmp_path, tensorrt=tensorrt, gpu=ADA)
    weights = sum(len(tensor.raw_data) for tensor in onnx.load(half).graph.initializer)  # 11 MB; in FP32 it were 22
    assert weights < plan.size_bytes < 1.6 * weights


def test_every_batch_size_and_fp32(tensorrt: TensorRT, bundle: Bundle, cache: Path) -> None:
    for order in (CompileOrder(max_batch=1), CompileOrder(precision="fp32"), CompileOrder(workspace_bytes=256 << 20)):
        assert compile_plan(bundle, order, cache=cache, tensorrt=tensorrt, gpu=ADA).size_bytes > 0


def test_the_real_builders_error_is_told_in_one_sentence(tensorrt: TensorRT, bundle: Bundle, cache: Path) -> None:
    """TensorRT-RTX has no FP32 product for Turing, where the head is one; ordinary TensorRT has."""
    with pytest.raises(PlanError) as caught:
        compile_plan(bundle, PLAIN, cache=cache, tensorrt=tensorrt, gpu=TURING)
    text = str(caught.value)
    assert text.startswith(f"{bundle.folder / 'model.fp16.onnx'}: TensorRT-RTX ")
    assert "for Turing (SM75)" in text
    assert "update TensorRT" in text
    assert ".cpp" not in text
    assert "\n" not in text


def test_a_gpu_that_it_does_not_build_for_is_told(tensorrt: TensorRT, bundle: Bundle, cache: Path) -> None:
    with pytest.raises(PlanError, match=r"builds for SM120, .*SM89, and NVIDIA H100 is SM90; install the\s+ordinary"):
        compile_plan(bundle, PLAIN, cache=cache, tensorrt=tensorrt, gpu=HOPPER)


def test_too_little_working_memory_is_told(tensorrt: TensorRT, bundle: Bundle, cache: Path) -> None:
    with pytest.raises(PlanError, match=r"built no plan: Myelin .*within workspace limit.*give it more --workspace-mb"):
        compile_plan(bundle, CompileOrder(workspace_bytes=1), cache=cache, tensorrt=tensorrt, gpu=ADA)


@pytest.mark.fault("F15")
def test_plans_of_other_gpus_lie_apart(tensorrt: TensorRT, bundle: Bundle, cache: Path) -> None:
    ampere = replace(ADA, name="NVIDIA RTX A2000", compute_capability=(8, 6))
    plans = [compile_plan(bundle, PLAIN, cache=cache, tensorrt=tensorrt, gpu=gpu) for gpu in (ADA, ampere)]
    assert plans[0].folder != plans[1].folder
    assert plans[0].read() != plans[1].read()


def test_the_fakes_have_the_real_names(tensorrt: TensorRT) -> None:
    """What our fakes of 11.4 allow, the real interface of the same generation has, but for what RTX leaves out."""
    left_out = {
        "Builder": {"build_engine_with_config"},
        "IBuilderConfig": {"remote_auto_tuning_config"},
        "INetworkDefinition": {"add_plugin", "add_plugin_v2", "add_plugin_v3", "has_implicit_batch_dimension"},
        "ITensor": {"broadcast_across_batch", "location"},
        "NetworkDefinitionCreationFlag": {"PREFER_AOT_PYTHON_PLUGINS", "PREFER_JIT_PYTHON_PLUGINS"},
    }
    for kind, names in NAMES["11.4.0"].items():
        missing = {name for name in names if not hasattr(getattr(trt, kind), name)}
        assert missing == left_out.get(kind, set()), kind


def test_the_networks_own_types_are_read_before_the_build(tensorrt: TensorRT, bundle: Bundle) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graphs()[1])
    kinds = Counter((layer.type.name, layer.get_output(0).dtype.name) for layer in layers_of(network))
    assert kinds["CAST", "HALF"] > 0
    assert kinds["CAST", "FLOAT"] > 0
    assert kinds["SOFTMAX", "HALF"] == 0


# In a process of its own


def test_it_compiles_in_a_process_of_its_own(bundle: Bundle, cache: Path, tensorrt: TensorRT) -> None:
    seen: list[str] = []
    order = CompileOrder(max_batch=3)
    request = apart(bundle.folder, cache, order, gpu=ADA, experimental=True)
    plan = compile_apart(request, lambda what, _: seen.append(what))
    assert plan == find_plan(cache, plan_key(bundle, order, tensorrt=tensorrt, gpu=ADA))
    assert [what for what in seen if ":" not in what] == [
        "reading the graph",
        "parsing the graph",
        "building",
        "writing the plan",
    ]
    seen.clear()
    assert compile_apart(request, lambda what, _: seen.append(what)) == plan
    assert seen == []


def test_its_errors_come_back_as_they_are(bundle: Bundle, cache: Path, tmp_path: Path, demo_bundle: Path) -> None:
    with pytest.raises(PlanError, match="for Turing"):
        compile_apart(apart(bundle.folder, cache, gpu=TURING, experimental=True))
    if importlib.util.find_spec("tensorrt") is None:
        with pytest.raises(NoTensorRT, match="TensorRT is not installed"):
            compile_apart(apart(bundle.folder, cache, gpu=ADA))
    unsigned = copy_bundle(demo_bundle, tmp_path / "unsigned")
    (unsigned / "signature.json").unlink()
    with pytest.raises(BundleError, match="the bundle is not signed"):
        compile_apart(apart(unsigned, cache, gpu=ADA, experimental=True))


@pytest.mark.fault("F13")
def test_without_a_gpu_nothing_of_tensorrt_is_touched(bundle: Bundle, cache: Path) -> None:
    if Path("/dev/nvidiactl").exists() or Path("/dev/nvmap").exists():
        pytest.skip("there is a GPU here")
    with pytest.raises(NoGpu, match="no NVIDIA driver is installed"):
        compile_apart(apart(bundle.folder, cache, experimental=True))


@pytest.mark.fault("F12")
def test_a_parser_that_crashes_ends_its_own_process_alone(cache: Path, tmp_path: Path, demo_bundle: Path) -> None:
    """A node without an output: TensorRT-RTX 1.7's parser dies of it (SIGSEGV)."""
    folder = small_bundle(tmp_path / "bundle", demo_bundle).folder
    proto = onnx.load_from_string(graphs()[1])
    del next(node for node in proto.graph.node if node.op_type == "Cast").output[:]
    replace_file(folder, "model.fp16.onnx", proto.SerializeToString())
    kept = set((cache / "plans").iterdir())
    with pytest.raises(PlanError) as caught:
        compile_apart(apart(folder, cache, gpu=ADA, experimental=True))
    assert "crashed (SIGSEGV) while it compiled" in str(caught.value) or "does not take" in str(caught.value)
    assert set((cache / "plans").iterdir()) == kept


def test_the_plans_record_says_how_it_was_made(bundle: Bundle, cache: Path, tensorrt: TensorRT) -> None:
    plan = compile_plan(bundle, PLAIN, cache=cache, tensorrt=tensorrt, gpu=ADA)
    record = json.loads((plan.folder / "plan.json").read_text())
    assert record["key"]["flags"] == {
        "max_batch": "8",
        "precision": "fp16",
        "typing": "strong",
        "via": "onnx",
        "workspace_bytes": "all",
        "optimisation_level": "3",
    }
    assert record["key"]["gpu"] == ADA.name
    assert bundle.manifest.input.size == SIZE
