"""Graphs for old parsers: opset 17, no Gelu, plain weights, and the same numbers."""

from __future__ import annotations

import builtins
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.tensorrt.opset17 import to_opset_17
from engines.tensorrt.plans import PlanError
from tests.fakes.small_vit import SIZE, graphs, onnx

SINGLE, _ = graphs()


def answers(graph: bytes, size: int) -> list[np.ndarray]:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # else it makes a Gelu of it again
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).standard_normal((2, 3, size, size), dtype=np.float32)
    return [np.asarray(values) for values in session.run(None, {"images": images})]


def with_node(kind: str, **settings: Any) -> bytes:
    proto = onnx.load_from_string(SINGLE)
    gelu = next(node for node in proto.graph.node if node.op_type == "Gelu")
    gelu.CopyFrom(onnx.helper.make_node(kind, [*gelu.input], [*gelu.output], name="strange", **settings))
    return bytes(proto.SerializeToString())


def test_the_small_network_says_the_same() -> None:
    rewritten = to_opset_17(SINGLE, name="m.onnx")
    proto = onnx.load_from_string(rewritten)
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
    assert proto.ir_version == 8
    census = Counter(node.op_type for node in proto.graph.node)
    assert (census["Gelu"], census["Erf"], census["LayerNormalization"]) == (0, 2, 5)
    assert not any(attribute.name in {"start", "end"} for node in proto.graph.node for attribute in node.attribute)
    for before, after in zip(answers(SINGLE, SIZE), answers(rewritten, SIZE), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_the_demonstration_model_says_the_same(demo_bundle: Path) -> None:
    graph = (demo_bundle / "model.onnx").read_bytes()
    rewritten = to_opset_17(graph, name="m.onnx")
    proto = onnx.load_from_string(rewritten)
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in kinds  # weights behind a Cast are none that old parsers take
    for before, after in zip(answers(graph, 224), answers(rewritten, 224), strict=True):
        np.testing.assert_allclose(after, before, atol=2e-5)


def test_an_older_graph_stays_as_it_is() -> None:
    rewritten = to_opset_17(SINGLE, name="m.onnx")
    assert to_opset_17(rewritten, name="m.onnx") is rewritten


def test_what_has_no_counterpart_is_named() -> None:
    with pytest.raises(PlanError, match=r"m\.onnx: node strange: Mish has no counterpart in opset 17.*update TensorRT"):
        to_opset_17(with_node("Mish"), name="m.onnx")
    with pytest.raises(PlanError, match="strange: a Gelu by tanh"):
        to_opset_17(with_node("Gelu", approximate="tanh"), name="m.onnx")


@pytest.mark.parametrize("graph", [SINGLE[:1000], b"\xff\xff\xff"])
def test_what_is_no_graph_is_refused(graph: bytes) -> None:
    with pytest.raises(PlanError, match="no ONNX graph, or only a part"):
        to_opset_17(graph, name="m.onnx")


def test_a_missing_onnx_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_onnx(name: str, *rest: Any) -> Any:
        if name == "onnx":
            raise ModuleNotFoundError(name="onnx")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(PlanError, match="needs the package onnx; install it with: pip install onnx"):
        to_opset_17(SINGLE, name="m.onnx")
