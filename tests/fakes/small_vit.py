"""A Vision Transformer of two blocks as an ONNX graph, made with onnx alone: small enough to compile in a second.

It has the operators, names and contract of the exporter's graphs, random weights, and 14 × 14 patches of 4 × 4 pixels.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle, load_bundle
from tests.fakes.bundles import amend, copy_bundle, replace_file

onnx = pytest.importorskip("onnx")  # no part of what an agent needs
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

SIZE, PATCH, WIDTH, HEADS, BLOCKS, CLASSES = 56, 4, 64, 2, 2, 7
GRID = SIZE // PATCH


class _Graph:
    """Collects nodes and weights; each call adds a node and gives its output's name."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def weight(self, name: str, *shape: int, scale: float = 0.1) -> str:
        return self.constant(name, (self._random.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def shape(self, *numbers: int) -> str:
        name = "shape" + "_".join(map(str, numbers)).replace("-", "m")
        if name not in {tensor.name for tensor in self.weights}:
            self.constant(name, np.array(numbers, np.int64))
        return name

    def node(self, kind: str, *inputs: str, out: str | None = None, **attributes: object) -> str:
        out = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"node_{out}", **attributes))
        return out

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        product = self.node("MatMul", x, self.weight(f"{name}.weight", inputs, outputs))
        return self.node("Add", product, self.weight(f"{name}.bias", outputs))

    def norm(self, x: str, name: str) -> str:
        scale = self.constant(f"{name}.weight", np.ones(WIDTH, np.float32))
        return self.node("LayerNormalization", x, scale, self.weight(f"{name}.bias", WIDTH), axis=-1, epsilon=1e-6)

    def heads(self, x: str, order: list[int]) -> str:
        split = self.node("Reshape", x, self.shape(0, 0, HEADS, WIDTH // HEADS))
        return self.node("Transpose", split, perm=order)

    def attention(self, x: str, queries: str, name: str) -> tuple[str, str]:
        q = self.heads(self.linear(queries, f"{name}.q", WIDTH, WIDTH), [0, 2, 1, 3])
        k = self.heads(self.linear(x, f"{name}.k", WIDTH, WIDTH), [0, 2, 3, 1])
        v = self.heads(self.linear(x, f"{name}.v", WIDTH, WIDTH), [0, 2, 1, 3])
        scale = self.constant(f"{name}.scale", np.array((WIDTH // HEADS) ** -0.5, np.float32))
        scores = self.node("MatMul", self.node("Mul", q, scale), k)
        attention = self.node("Softmax", scores, axis=-1)
        mixed = self.node("Transpose", self.node("MatMul", attention, v), perm=[0, 2, 1, 3])
        joined = self.node("Reshape", mixed, self.shape(0, 0, WIDTH))
        return self.linear(joined, f"{name}.out", WIDTH, WIDTH), attention

    def block(self, x: str, name: str, *, last: bool) -> tuple[str, str]:
        normal = self.norm(x, f"{name}.ln_1")
        first = self.shape(0)
        queries = self.node("Slice", normal, first, self.shape(1), self.shape(1)) if last else normal
        base = self.node("Slice", x, first, self.shape(1), self.shape(1)) if last else x
        mixed, attention = self.attention(normal, queries, f"{name}.attention")
        x = self.node("Add", base, mixed)
        inner = self.node("Gelu", self.linear(self.norm(x, f"{name}.ln_2"), f"{name}.mlp.0", WIDTH, 2 * WIDTH))
        return self.node("Add", x, self.linear(inner, f"{name}.mlp.3", 2 * WIDTH, WIDTH)), attention


def small_vit(*, seed: int = 0, classes: int = CLASSES, norm: bool = True) -> onnx.ModelProto:
    """The graph in FP32; ``norm`` False leaves LayerNormalization out."""
    graph = _Graph(seed)
    if not norm:
        graph.norm = lambda x, name: graph.node("Identity", x)  # type: ignore[method-assign]
    conv = graph.node(
        "Conv", "images", graph.weight("conv.weight", WIDTH, 3, PATCH, PATCH, scale=0.02),
        kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH],
    )  # fmt: skip
    patches = graph.node("Transpose", graph.node("Reshape", conv, graph.shape(0, WIDTH, -1)), perm=[0, 2, 1])
    batch = graph.node("Shape", "images", start=0, end=1)
    many = graph.node("Concat", batch, graph.shape(1), graph.shape(WIDTH), axis=0)
    token = graph.node("Expand", graph.weight("class_token", 1, 1, WIDTH), many)
    x = graph.node("Concat", token, patches, axis=1)
    x = graph.node("Add", x, graph.weight("position", 1, GRID**2 + 1, WIDTH))
    for index in range(BLOCKS):
        x, attention = graph.block(x, f"block_{index}", last=index == BLOCKS - 1)
    feature = graph.node("Reshape", graph.norm(x, "ln"), graph.shape(0, WIDTH))
    logits = graph.node(
        "Gemm", feature, graph.weight("head.weight", WIDTH, classes), graph.weight("head.bias", classes)
    )
    graph.node("Softmax", logits, axis=-1, out="probabilities")
    row = graph.node("Slice", attention, graph.shape(1), graph.shape(GRID**2 + 1), graph.shape(3))
    mean = graph.node("ReduceMean", row, graph.shape(1), keepdims=0)
    graph.node("Reshape", mean, graph.shape(0, GRID, GRID), out="attention")
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "small",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes]),
                helper.make_tensor_value_info("attention", TensorProto.FLOAT, ["batch", GRID, GRID]),
            ],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


@functools.cache
def graphs(seed: int = 0) -> tuple[bytes, bytes]:
    """``model.onnx`` and ``model.fp16.onnx``."""
    from build.fp16 import to_fp16

    single = small_vit(seed=seed)
    return single.SerializeToString(), to_fp16(single).SerializeToString()


def small_bundle(folder: Path, demo: Path, *, fp16: bool = True, seed: int = 0) -> Bundle:
    """A signed bundle of the small network; everything else in it is the demonstration bundle's."""
    copy_bundle(demo, folder, lambda manifest: manifest["input"].update(size=SIZE))
    single, half = graphs(seed)
    replace_file(folder, "model.onnx", single)
    if fp16:
        replace_file(folder, "model.fp16.onnx", half)
    else:
        (folder / "model.fp16.onnx").unlink(missing_ok=True)
        amend(folder, lambda manifest: manifest["files"].pop("model.fp16.onnx", None))
    return load_bundle(folder)
