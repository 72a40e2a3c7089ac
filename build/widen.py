"""A ViT-B/16 that behaves like a trained one: ``python -m build.widen --out vit_b_16.pt``.

No ViT-B/16 for these seven classes is at hand, and random weights would prove little about an exporter or about
float16. So the demonstration's ViT-Ti/16 is widened four times without a change of its function (Net2WiderNet, Chen et
al. 2016, arXiv:1511.05641): every feature, head and hidden unit gets three copies, so that each LayerNorm sees the
same mean and variance, and every weight that reads copied features is split at random into four that sum to it. The
result has a ViT-B/16's sizes, torchvision's names, and the answers of the original, with its confidences and its
attention. It is no better a classifier than the original.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from build.from_onnx import ForeignGraph, config_of, read_weights
from build.vit import VIT_B_16, VisionTransformer, ViTConfig
from engines.bundle import demo_bundle_folder


def widened_config(config: ViTConfig, times: int) -> ViTConfig:
    """The sizes after widening: heads keep their width, there are more of them."""
    return ViTConfig(
        config.image_size,
        config.patch_size,
        config.layers,
        times * config.heads,
        times * config.width,
        times * config.mlp_width,
        config.classes,
    )


def split_columns(weight: Tensor, times: int, generator: torch.Generator) -> Tensor:
    """Split what a layer reads: ``[out, in]`` to ``[out, times * in]`` whose ``times`` blocks sum to ``weight``.

    The parts are a ``times``-th each plus noise that sums to zero, as large as makes the parts' standard deviation
    ``1 / sqrt(times)`` of the weight's: that is how weights shrink with the width in networks trained at that width,
    so that rounding hurts as much as it would there.
    """
    noise = torch.randn(times, *weight.shape, generator=generator, dtype=torch.float64)
    noise -= noise.mean(dim=0)
    # Centring leaves (times - 1) / times of the variance; the equal parts already have 1 / times**2.
    scale = weight.double().std() * ((1 / times - 1 / times**2) * times / (times - 1)) ** 0.5
    parts = weight.double() / times + scale * noise
    joined: Tensor = parts.permute(1, 0, 2).flatten(1).float()
    return joined


def widen(weights: dict[str, Tensor], config: ViTConfig, times: int = 4, seed: int = 0) -> VisionTransformer:
    """A network ``times`` as wide that computes the same function.

    Args:
        weights: State dict of a ``VisionTransformer(config)``.
        config: Its sizes.
        times: How many copies there are of every feature, head and hidden unit; at least 2.
        seed: Of the random splits.

    Returns:
        The network in evaluation mode. Logits, and the attention's mean over the heads, equal the original's up to
        float32 rounding.

    Raises:
        RuntimeError: a weight is missing or does not fit the sizes (torch names it).
    """
    generator = torch.Generator().manual_seed(seed)
    width, heads = config.width, config.heads
    wide: dict[str, Tensor] = {}
    for name, value in weights.items():
        kind = name.rsplit(".", 1)[-1]
        if name in {"class_token", "encoder.pos_embedding"}:
            wide[name] = value.repeat(1, 1, times)
        elif name == "conv_proj.weight":
            wide[name] = value.repeat(times, 1, 1, 1)
        elif kind == "in_proj_weight":  # copies of whole heads, within each of query, key and value
            rows = value.reshape(3, width, width).repeat(1, times, 1).flatten(0, 1)
            wide[name] = split_columns(rows, times, generator)
        elif kind == "in_proj_bias":
            wide[name] = value.reshape(3, width).repeat(1, times).flatten()
        elif name == "heads.head.weight":  # the classes stay as many as they are
            wide[name] = split_columns(value, times, generator)
        elif name == "heads.head.bias":
            wide[name] = value
        elif value.ndim == 2:
            wide[name] = split_columns(value.repeat(times, 1), times, generator)
        else:  # norms, and the biases of what writes features
            wide[name] = value.repeat(times)
    if config.width % heads:
        raise ValueError(f"a width of {config.width} does not divide into {heads} heads")
    model = VisionTransformer(widened_config(config, times))
    model.load_state_dict(wide)
    return model.eval()


def original(model_onnx: Path) -> VisionTransformer:
    """The network of a bundle's ``model.onnx``, its calibration folded into the head, in evaluation mode.

    Raises:
        ForeignGraph: the file is no graph of this project's exporter.
    """
    weights = read_weights(model_onnx)
    model = VisionTransformer(config_of(weights))
    if missing := sorted(model.state_dict().keys() - weights.keys()):
        raise ForeignGraph(
            f"{model_onnx}: {len(missing)} weights cannot be told apart ({missing[0]} first); name a trained network's"
            " model.onnx"
        )
    model.load_state_dict(weights)
    return model.eval()


def widened_demo(model_onnx: Path | None = None, seed: int = 0) -> VisionTransformer:
    """The demonstration's ViT-Ti/16 (or another ViT-Ti/16's ``model.onnx``) as a ViT-B/16."""
    weights = read_weights(model_onnx or demo_bundle_folder() / "model.onnx")
    config = config_of(weights)
    if widened_config(config, 4) != VIT_B_16:
        raise ForeignGraph(f"{model_onnx}: four times this network is no ViT-B/16; name the model.onnx of a ViT-Ti/16")
    return widen(weights, config, 4, seed)


def largest_difference(first: VisionTransformer, second: VisionTransformer, images: Tensor) -> tuple[float, float]:
    """How far two networks are apart on ``images`` ``[N, 3, S, S]``: in any probability, in the mean attention map."""
    with torch.inference_mode():
        (logits_a, maps_a), (logits_b, maps_b) = first(images), second(images)
    probability = (logits_a.softmax(1) - logits_b.softmax(1)).abs().max()
    attention = (maps_a.mean(1) - maps_b.mean(1)).abs().max()
    return float(probability), float(attention)


def main() -> int:
    """Command line: write a torchvision-named ``vit_b_16`` state dict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the state dict to write (.pt)")
    parser.add_argument("--model", type=Path, help="model.onnx of a ViT-Ti/16 (default: the demonstration bundle's)")
    parser.add_argument("--seed", type=int, default=0, help="of the random splits (default 0)")
    arguments = parser.parse_args()
    source = arguments.model or demo_bundle_folder() / "model.onnx"
    try:
        wide = widened_demo(source, arguments.seed)
    except ForeignGraph as error:
        print(error, file=sys.stderr)
        return 78
    size = wide.config.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    probability, attention = largest_difference(original(source), wide, images)
    temporary = arguments.out.with_name(arguments.out.name + ".tmp")
    torch.save(wide.state_dict(), temporary)
    temporary.replace(arguments.out)
    print(f"{arguments.out}: vit_b_16, {sum(p.numel() for p in wide.parameters()) / 1e6:.1f} million parameters;")
    print(f"against {source}: probabilities within {probability:.1e}, attention within {attention:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
