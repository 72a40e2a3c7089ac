"""Start values for a Vision Transformer that must learn from few images.

Mimetic initialisation (Trockman and Kolter 2023, arXiv:2305.09828): pretrained transformers have query-key products
near the identity and value-projection products near its negative; starting there, with sinusoidal position
embeddings, lets attention begin local instead of uniform, which small data sets cannot teach by themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from build.vit import SelfAttention, VisionTransformer


def sinusoidal_positions(grid: int, width: int) -> Tensor:
    """Two-dimensional sine-cosine embedding ``[grid * grid, width]`` float32 (Vaswani et al. 2017, half an axis)."""
    quarter = width // 4
    frequency = 10_000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows = axis[:, None].expand(grid, grid, -1)
    columns = axis[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1).float()


def _factor(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Balanced ``left [width, rank]``, ``right [rank, width]`` whose product is nearest to ``product``."""
    u, s, v = torch.linalg.svd(product)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]


def _mimic(attention: SelfAttention, qk: float = 0.7, vp: float = 0.4) -> None:
    width = attention.out_proj.in_features
    rank = width // attention.heads
    identity = torch.eye(width)

    def noise() -> Tensor:
        values: Tensor = torch.randn(width, width) / width**0.5
        return values

    weight = attention.in_proj_weight
    for head in range(attention.heads):
        left, right = _factor(qk * noise() + qk * identity, rank)
        rows = slice(head * rank, (head + 1) * rank)
        weight[:width][rows] = left.T
        weight[width : 2 * width][rows] = right
    left, right = _factor(vp * noise() - vp * identity, width)
    weight[2 * width :] = left.T
    attention.out_proj.weight.copy_(right.T)


@torch.no_grad()
def initialise_mimetic(model: VisionTransformer) -> VisionTransformer:
    """Set a fresh model's attention and position embedding in place; returns the model."""
    for name, module in model.named_modules():
        if name.endswith("self_attention") and isinstance(module, SelfAttention):
            _mimic(module)
    positions = model.encoder.pos_embedding
    positions.zero_()
    positions[0, 1:] = sinusoidal_positions(model.config.grid, model.config.width)
    return model
