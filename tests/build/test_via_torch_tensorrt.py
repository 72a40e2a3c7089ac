"""torch-tensorrt is given the right network, by options that it knows. It needs a GPU itself, and is a fake here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from build import via_torch_tensorrt as via
from build.bundle_writer import cpu_session
from build.vit import VisionTransformer, ViTConfig
from engines.tensorrt.plans import PlanError

SMALL = ViTConfig(image_size=32, layers=2, heads=2, width=64, mlp_width=128)
GRAPH = b"the bytes of a graph"


@pytest.fixture(scope="module")
def model() -> VisionTransformer:
    torch.manual_seed(3)
    network = VisionTransformer(SMALL)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


@pytest.fixture
def weights(model: VisionTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small network's weights are what the graph holds."""
    monkeypatch.setattr(via, "read_weights", lambda path: model.state_dict())
    monkeypatch.setattr(via, "config_of", lambda found: SMALL)


class Input:
    def __init__(self, *, min_shape: Any, opt_shape: Any, max_shape: Any, dtype: torch.dtype) -> None:
        self.shapes, self.dtype = (min_shape, opt_shape, max_shape), dtype


def newest(given: dict[str, Any]) -> Callable[..., bytes]:
    """The function with the names of torch-tensorrt 2.14 that matter, and its ``kwargs``, which swallow any other."""

    def convert(
        exported_program: Any,
        inputs: Any = None,
        *,
        arg_inputs: Any = None,
        kwarg_inputs: Any = None,
        device: Any = None,
        disable_tf32: bool = False,
        workspace_size: int = 0,
        require_full_compilation: bool = False,
        version_compatible: bool = False,
        optimization_level: int | None = None,
        timing_cache_path: str = "",
        cache_built_engines: bool = False,
        reuse_cached_engines: bool = False,
        arg_input_binding_names: Any = None,
        output_binding_names: Any = None,
        **kwargs: Any,
    ) -> bytes:
        given.update(locals())
        return b"a plan"

    return convert


def install(monkeypatch: pytest.MonkeyPatch, convert: Callable[..., bytes] | None, version: str = "2.14.0") -> None:
    dynamo = SimpleNamespace(**({via._ENTRY: convert} if convert else {}))
    module = SimpleNamespace(__version__=version, Input=Input, dynamo=dynamo)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    monkeypatch.setattr(via, "_device", lambda: torch.device("cpu"))


def make(tmp_path: Path, graph: bytes = GRAPH, **changed: Any) -> bytes:
    order = {"half": True, "max_batch": 4, "workspace_bytes": 0, "optimisation_level": 3}
    return via.make_plan(Path("m.onnx"), graph, timing_cache=tmp_path / "t" / "timing", **{**order, **changed})


@pytest.mark.parametrize("half", [True, False])
def test_the_demonstration_network_says_what_its_graph_says(demo_bundle: Path, half: bool) -> None:
    graph = demo_bundle / "model.onnx"
    network, size = via.load_network(graph.read_bytes(), half=half)
    images = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    expected = cpu_session(graph, threads=1).run(None, {"images": images})
    with torch.inference_mode():
        found = network(torch.from_numpy(images))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours.numpy(), theirs, atol=4e-3 if half else 1e-5)


@pytest.mark.usefixtures("weights")
def test_precisions_and_batches_are_in_the_program() -> None:
    network, size = via.load_network(GRAPH, half=True)
    program = via.export_program(network, size, max_batch=4, device=torch.device("cpu"))
    kinds: dict[str, set[torch.dtype]] = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and isinstance(value := node.meta.get("val"), torch.Tensor):
            kinds.setdefault(str(node.target).removeprefix("aten.").split(".")[0], set()).add(value.dtype)
    assert kinds["softmax"] == {torch.float32}
    assert kinds["layer_norm"] == {torch.float32}
    assert kinds["conv2d"] == {torch.float16}
    assert kinds["matmul"] == {torch.float16}
    assert kinds["linear"] == {torch.float16, torch.float32}  # the head alone is FP32
    for count in (1, 4):
        with torch.inference_mode():
            probabilities, attention = program.module()(torch.zeros(count, 3, 32, 32))
        assert (probabilities.shape, attention.shape) == ((count, 7), (count, 2, 2))
        assert (probabilities.dtype, attention.dtype) == (torch.float32, torch.float32)


@pytest.fixture
def exported(weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes seconds, and was tested above."""
    monkeypatch.setattr(via, "export_program", lambda *_, **__: "the program")


@pytest.mark.usefixtures("exported")
def test_torch_tensorrt_is_told_everything_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    install(monkeypatch, newest(given))
    assert make(tmp_path, workspace_bytes=99, optimisation_level=4) == b"a plan"
    (shapes,) = given["arg_inputs"]
    assert shapes.shapes == ((1, 3, 32, 32), (1, 3, 32, 32), (4, 3, 32, 32))
    assert shapes.dtype == torch.float32
    assert given["arg_input_binding_names"] == ("images",)
    assert given["output_binding_names"] == ("probabilities", "attention")
    assert (given["workspace_size"], given["optimization_level"]) == (99, 4)
    assert given["require_full_compilation"]
    assert given["disable_tf32"]
    assert not given["version_compatible"]  # its plans hold host code
    assert given["kwargs"] == {}  # nothing is swallowed
    assert (tmp_path / "t").is_dir()


@pytest.mark.usefixtures("exported")
def test_an_older_one_is_refused_rather_than_misunderstood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.14 tensors cannot be named, and what is not known is swallowed."""

    def old(exported_program: Any, *, arg_inputs: Any, enabled_precisions: Any = None, **kwargs: Any) -> bytes:
        raise AssertionError("must not be called")

    install(monkeypatch, old, "2.5.0")
    with pytest.raises(PlanError, match=r"torch-tensorrt 2\.5\.0 does not know arg_input_binding_names, .*2\.14 or"):
        make(tmp_path)


def test_explicit_typing_is_asked_for_where_it_is_a_choice() -> None:
    def convert(program: Any, *, workspace_size: int = 0, use_explicit_typing: bool = False) -> bytes:
        return b""

    assert via._checked(convert, {"workspace_size": 1}, "2.9") == {"workspace_size": 1, "use_explicit_typing": True}


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize(
    ("convert", "words"),
    [
        (None, "has no convert_exported_program_to_serialized_trt_engine"),
        (lambda *_, **__: b"", "does not know"),
    ],
)
def test_what_it_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convert: Any, words: str) -> None:
    install(monkeypatch, convert)
    with pytest.raises(PlanError, match=words):
        make(tmp_path)


@pytest.mark.usefixtures("exported")
def test_what_it_raises_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    install(monkeypatch, newest(given))
    monkeypatch.setattr(via, "_checked", lambda *_: {"nonsense": 1})
    monkeypatch.setattr(
        sys.modules["torch_tensorrt"].dynamo, via._ENTRY, lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a\nb"))
    )
    with pytest.raises(PlanError, match=r"m\.onnx: torch-tensorrt 2\.14\.0 failed: a b"):
        make(tmp_path)
    monkeypatch.setattr(sys.modules["torch_tensorrt"].dynamo, via._ENTRY, lambda *_, **__: b"")
    with pytest.raises(PlanError, match="built no plan"):
        make(tmp_path)


@pytest.mark.usefixtures("exported")
def test_without_it_or_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(PlanError, match=r"torch-tensorrt is not installed.*pip install torch-tensorrt.*--via onnx"):
        make(tmp_path)
    install(monkeypatch, newest({}))
    monkeypatch.undo()
    monkeypatch.setitem(
        sys.modules, "torch_tensorrt", SimpleNamespace(dynamo=SimpleNamespace(**{via._ENTRY: newest({})}))
    )
    if not torch.cuda.is_available():
        with pytest.raises(PlanError, match="torch sees no GPU"):
            make(tmp_path)


def test_a_foreign_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, newest({}))
    with pytest.raises(PlanError, match=r"m\.onnx: not a graph that torch-tensorrt can be given"):
        make(tmp_path, b"no graph")
