"""The weights of an exported network, read back from its graph under torchvision's names.

The exporter keeps the names of most parameters, transposes the weights of linear layers into nameless initialisers, and
splits the last block's projection bias; a weight's name is found again through the bias that is added to its product.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from build.vit import ViTConfig

_PREFIX: Final = "model."
_IN_PROJ_WEIGHT: Final = ".in_proj_weight"


class ForeignGraph(ValueError):
    """The graph was not written by this project's exporter; the message says what is missing in which file."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The parameters of a ``model.onnx``, float32, with the head's calibration folded into ``heads.head``.

    Equal weights are stored once, so that an untrained network's, whose norms are all ones, come back incomplete.

    The graph divides the logits by a temperature and adds a bias for each class; here the head's weights and biases
    are those whose plain softmax gives the same probabilities.

    Raises:
        ForeignGraph: the file is no graph of this project's exporter.
    """
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's and onnx's errors share no public base
        raise ForeignGraph(f"{path}: is no ONNX file ({error}); name a bundle's model.onnx") from error
    values = {t.name.removesuffix(".half"): numpy_helper.to_array(t).astype(np.float32) for t in graph.initializer}
    found = {name.removeprefix(_PREFIX): value for name, value in values.items() if name.startswith(_PREFIX)}
    found |= _linear_weights(graph, values)
    if missing := {"heads.head.weight", "heads.head.bias"} - found.keys():
        raise ForeignGraph(f"{path}: the graph has no {min(missing)}; name a model.onnx that this project exported")
    temperature, bias = values.get("temperature", np.float32(1)), values.get("bias", np.float32(0))
    found["heads.head.weight"] = found["heads.head.weight"] / temperature
    found["heads.head.bias"] = found["heads.head.bias"] / temperature + bias
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}


def _linear_weights(graph: onnx.GraphProto, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights ``[out, in]`` of the linear layers, and the projection biases that were split."""
    maker = {output: node for node in graph.node for output in node.output}
    weights: dict[str, np.ndarray] = {}
    split: dict[str, list[np.ndarray]] = defaultdict(list)
    for node in graph.node:
        product = maker.get(node.input[0]) if node.op_type == "Add" else None
        if product is None or product.op_type != "MatMul" or node.input[1] not in values:
            continue
        bias, weight = node.input[1], product.input[1]
        if bias.startswith(_PREFIX) and weight in values:
            weights[bias.removeprefix(_PREFIX)[: -len("bias")] + "weight"] = values[weight].T
        else:  # the last block: slices of one named weight, the class token's query first
            while weight in maker and maker[weight].op_type in {"Transpose", "Slice"}:
                weight = maker[weight].input[0]
            if weight.endswith(_IN_PROJ_WEIGHT):
                split[weight.removeprefix(_PREFIX)[: -len("weight")] + "bias"].append(values[bias])
    return weights | {name: np.concatenate(parts) for name, parts in split.items()}


def config_of(weights: dict[str, Tensor], head_width: int = 64) -> ViTConfig:
    """The sizes of the network that has these weights; ``head_width`` is 64 in ViT-Ti, -S and -B.

    Raises:
        ForeignGraph: a weight that tells a size is missing.
    """
    try:
        patches = weights["encoder.pos_embedding"].shape[1] - 1
        width, _, patch, _ = weights["conv_proj.weight"].shape
        mlp_width = weights["encoder.layers.encoder_layer_0.mlp.0.weight"].shape[0]
        classes = weights["heads.head.weight"].shape[0]
    except KeyError as error:
        raise ForeignGraph(f"the weights lack {error}; this is no Vision Transformer of this project") from error
    layers = {match[1] for name in weights if (match := re.match(r"encoder\.layers\.encoder_layer_(\d+)\.", name))}
    grid = round(patches**0.5)
    return ViTConfig(grid * patch, patch, len(layers), width // head_width, width, mlp_width, classes)
