"""A bundle with random weights, for measuring speed: ``python -m build.random_bundle --model vit_b_16 --out DIR``.

Its answers mean nothing, and everything in it says so. The head gets random weights as well, so that the golden image's
probabilities are not all equal and the self-test can fail.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from build.bundle_writer import BundleText, write_bundle
from build.export import export_onnx
from build.fp16 import export_fp16
from build.vit import CONFIGS, VisionTransformer, ViTConfig
from engines.manifest import Manifest, OperatingPoint

MEANINGLESS = "Random weights: the answers mean nothing. For measuring speed only."


@dataclass(frozen=True)
class RandomBundle:
    """What to make; ``attention`` False leaves the second output away (no agent can run that, a benchmark can)."""

    model: str
    out: Path
    fp16_weights: bool = False
    fp16_graph: bool = False
    attention: bool = True
    seed: int = 0


def random_model(config: ViTConfig, seed: int = 0) -> VisionTransformer:
    """A network with random weights everywhere, its head included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer(config)
        for name, parameter in model.heads.named_parameters():
            torch.nn.init.normal_(parameter, std=0.05 if name.endswith("weight") else 0.5)
    return model.eval()


def synthetic_lesion(height: int = 240, width: int = 320, seed: int = 0) -> NDArray[np.uint8]:
    """A brown blot on skin colour with noise, ``[H, W, 3]`` uint8 RGB: a golden image that nobody holds rights on."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    blot = 1 / (1 + np.exp(12 * (np.hypot(x * 1.3, y) - 0.55 - 0.08 * np.sin(5 * np.arctan2(y, x)))))
    colour = (1 - blot[..., None]) * np.array([214, 160, 140]) + blot[..., None] * np.array([96, 58, 44])
    noise = np.random.default_rng(seed).normal(0, 6, colour.shape)
    return np.asarray(np.clip(colour + noise, 0, 255), np.uint8)


def make(order: RandomBundle) -> Manifest:
    """Write the bundle; returns its manifest."""
    name = f"random-{order.model.replace('_', '-')}"
    model = random_model(CONFIGS[order.model], order.seed)
    text = BundleText(
        name=name,
        version="0.0.0",
        architecture=order.model,
        provenance={"weights": f"random, seed {order.seed}", "golden_image": "synthetic"},
        licence="Apache-2.0",
        intended_use=MEANINGLESS,
        card=f"# {name}\n\n{MEANINGLESS} The golden image is synthetic.\n",
    )
    point = OperatingPoint(threshold=0.5, chosen_on="nothing: random weights")
    with tempfile.TemporaryDirectory() as folder:
        onnx_file = Path(folder) / "model.onnx"
        export_onnx(model, onnx_file, fp16_weights=order.fp16_weights, attention=order.attention)
        half = export_fp16(onnx_file, Path(folder) / "model.fp16.onnx") if order.fp16_graph else None
        return write_bundle(order.out, onnx_file, synthetic_lesion(), text, point, fp16_onnx=half)


def main() -> None:
    """Command line of the maker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(CONFIGS), default="vit_b_16")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder; replaced if it is there")
    parser.add_argument("--fp16-weights", action="store_true", help="store large weights as float16")
    parser.add_argument("--fp16-graph", action="store_true", help="write model.fp16.onnx too, for GPUs")
    parser.add_argument("--without-attention", action="store_true", help="leave the attention output away")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    order = RandomBundle(
        arguments.model,
        arguments.out,
        fp16_weights=arguments.fp16_weights,
        fp16_graph=arguments.fp16_graph,
        attention=not arguments.without_attention,
        seed=arguments.seed,
    )
    make(order)
    print(f"bundle: {order.out} ({MEANINGLESS})")


if __name__ == "__main__":
    main()
