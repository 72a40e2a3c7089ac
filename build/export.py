"""A Vision Transformer as an ONNX graph: images in, probabilities and the attention map out.

The graph stays portable (``build.onnx_file``), and LayerNormalization and Gelu stay single operators, which ONNX
Runtime and TensorRT have fast kernels for. The query is scaled before its product with the keys, as TensorRT asks for
its fused attention (TensorRT documentation, "Fused Attention").

With ``fp16_weights`` large weights lie on disk as float16, each followed by a Cast to float32: half the file, and since
a runtime folds the casts when it loads the model, exactly the same speed as float32 weights.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from build.onnx_file import IR_VERSION, LIMIT, OPSET, GraphError, write_model
from build.vit import VisionTransformer

INPUT: Final = "images"
PROBABILITIES: Final = "probabilities"
ATTENTION: Final = "attention"
HALF_FROM: Final = 4096
"""Initialisers of at least this many values are stored as float16; norms and biases are too small to be worth it."""


class Answering(nn.Module):
    """The network with its head for use: ``probabilities = softmax(logits / temperature + bias)`` and one attention
    map.

    The temperature and the bias per class are fitted after training (bias-corrected temperature scaling, Alexandari et
    al. 2020, arXiv:1901.06852); temperature 1 and bias 0 give the plain softmax.
    """

    def __init__(self, model: VisionTransformer, temperature: float = 1.0, bias: Sequence[float] | None = None) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        classes = model.config.classes
        values = torch.zeros(classes) if bias is None else torch.tensor(list(bias), dtype=torch.float32)
        if values.shape != (classes,):
            raise ValueError(
                f"bias must have one value for each of the {classes} classes, not shape {tuple(values.shape)}"
            )
        self.model = model
        self.temperature: Tensor
        self.bias: Tensor
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("bias", values)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised RGB ``[N, 3, S, S]`` float32 to probabilities ``[N, classes]`` and attention ``[N, grid, grid]``.

        The attention is the class token's in the last block, mean over heads; a map sums to at most 1.
        """
        logits, attention = self.model(images)
        return (logits / self.temperature + self.bias).softmax(dim=1), attention.mean(dim=1)


class _WithoutAttention(nn.Module):
    """:class:`Answering` with the probabilities alone, to measure what the second output costs."""

    def __init__(self, answering: Answering) -> None:
        super().__init__()
        self.answering = answering

    def forward(self, images: Tensor) -> Tensor:
        """Normalised RGB ``[N, 3, S, S]`` float32 to probabilities ``[N, classes]``."""
        probabilities: Tensor = self.answering(images)[0]
        return probabilities


def export_onnx(
    model: VisionTransformer,
    path: Path,
    *,
    fp16_weights: bool,
    temperature: float = 1.0,
    bias: Sequence[float] | None = None,
    attention: bool = True,
) -> None:
    """Write a model as ONNX, atomically, once the checker has passed it.

    Input ``images`` ``[N, 3, S, S]`` float32; outputs ``probabilities`` ``[N, classes]`` and, unless ``attention`` is
    False, ``attention`` ``[N, grid, grid]``, both float32; N is free.

    Args:
        model: The network; it is put into evaluation mode.
        path: The file to write.
        fp16_weights: Store large weights as float16 (values beyond its range are an error).
        temperature: Divides the logits; above 0.
        bias: Added to the scaled logits, one for each class; None for zeros.
        attention: Whether the graph gives out the attention map.

    Raises:
        ValueError: the head's numbers do not fit, a weight does not fit into float16, or (``GraphError``) the model is
            too large for one file.
    """
    size = sum(parameter.numel() for parameter in model.parameters()) * (2 if fp16_weights else 4)
    if size > LIMIT:  # before minutes of tracing
        raise GraphError(f"{path}: would have {size / 1e9:.1f} GB, and an ONNX model in one file ends at 2 GB")
    answering = Answering(model, temperature, bias).eval()
    graph = answering if attention else _WithoutAttention(answering).eval()
    side = model.config.image_size
    proto = _trace(graph, torch.zeros(2, 3, side, side), [PROBABILITIES, ATTENTION] if attention else [PROBABILITIES])
    _strip(proto)
    if fp16_weights:
        _halve(proto.graph)
    proto.ir_version = IR_VERSION
    proto.producer_name = "dermascan-edge build"
    write_model(proto, path)


def _trace(module: nn.Module, example: Tensor, outputs: list[str]) -> onnx.ModelProto:
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # it warns of torchvision's operators, which this model does not have
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's exporter calls an older function of torch
            warnings.simplefilter("ignore", DeprecationWarning)
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    finally:
        registration.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model_proto


def _strip(proto: onnx.ModelProto) -> None:
    """Drop what the exporter notes down about the source: it names the files of the machine that exported."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _halve(graph: onnx.GraphProto) -> None:
    """Store large float32 initialisers as float16, each followed by a Cast; the casts become the first nodes."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < HALF_FROM:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= np.finfo(np.float16).max:
            raise GraphError(f"weight {name}: a value does not fit into float16; export with float32 weights")
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + ".half"))
        casts.append(
            onnx.helper.make_node("Cast", [name + ".half"], [name], name=name + ".cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
