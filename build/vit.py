"""The Vision Transformer: one definition from ViT-Ti to ViT-B/16, with torchvision's parameter names.

The architecture is ViT of Dosovitskiy et al. 2021 ("An Image is Worth 16x16 Words", arXiv:2010.11929) as torchvision
builds it: pre-norm blocks, LayerNorm with epsilon 1e-6, exact (erf) GELU, a learned class token and position
embedding. A ``vit_b_16`` state dict of torchvision loads into ``VisionTransformer(VIT_B_16)`` unchanged.

One thing differs from the textbook: in the last block only the class token's query is computed. A classifier reads
nothing but that token, so every other row of the last block is dead work; leaving it out is exact, and hands out the
class token's attention over the patches at no extra cost.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS: Final = 1e-6


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a Vision Transformer; lengths in tokens or features, ``image_size`` and ``patch_size`` in pixels."""

    image_size: int = 224
    patch_size: int = 16
    layers: int = 12
    heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    classes: int = 7

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def head_width(self) -> int:
        """Features of one attention head."""
        return self.width // self.heads


VIT_B_16: Final = ViTConfig()
VIT_S_16: Final = ViTConfig(heads=6, width=384, mlp_width=1536)
VIT_TI_16: Final = ViTConfig(heads=3, width=192, mlp_width=768)
CONFIGS: Final = {"vit_b_16": VIT_B_16, "vit_s_16": VIT_S_16, "vit_ti_16": VIT_TI_16}


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameter names of ``torch.nn.MultiheadAttention``."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.width, config.width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.width))
        self.out_proj = nn.Linear(config.width, config.width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def _split(self, x: Tensor) -> Tensor:
        """``[N, T, width]`` to ``[N, heads, T, head_width]``."""
        heads: Tensor = x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
        return heads

    def forward(self, x: Tensor) -> Tensor:
        """All rows: ``[N, T, width]`` to ``[N, T, width]``."""
        q, k, v = (self._split(t) for t in F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=2))
        # Written out, not scaled_dot_product_attention: the CPU's fused backward pass takes twice as long, and
        # exporters and TensorRT fuse exactly this form.
        attention = ((q * q.shape[3] ** -0.5) @ k.transpose(2, 3)).softmax(dim=3)
        out = attention.to(v.dtype) @ v
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected

    def class_row(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Only the class token's row: ``[N, 1, width]`` and its attention ``[N, heads, 1, T]`` (softmax in FP32)."""
        width = x.shape[2]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = self._split(F.linear(x[:, :1], weight[:width], bias[:width]))
        k, v = (self._split(t) for t in F.linear(x, weight[width:], bias[width:]).chunk(2, dim=2))
        scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)
        attention = scores.float().softmax(dim=3)
        out = attention.to(v.dtype) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2)), attention


class EncoderBlock(nn.Module):
    """One pre-norm transformer block; ``drop_path`` is the chance that a sample skips a branch while training."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.self_attention = SelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        first, second = nn.Linear(config.width, config.mlp_width), nn.Linear(config.mlp_width, config.width)
        # Index 2 stands for torchvision's dropout, which keeps the second layer's name "mlp.3".
        self.mlp = nn.Sequential(first, nn.GELU(), nn.Identity(), second)
        self.drop_path = drop_path
        for layer in (first, second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016, arXiv:1603.09382), a no-op outside training."""
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        return branch * (torch.rand(branch.shape[0], 1, 1, device=branch.device) < keep).to(branch.dtype) / keep

    def forward(self, x: Tensor) -> Tensor:
        """``[N, T, width]`` to ``[N, T, width]``."""
        x = x + self._drop(self.self_attention(self.ln_1(x)))
        return x + self._drop(self.mlp(self.ln_2(x)))

    def class_row(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The class token's row alone, ``[N, 1, width]``, and its attention ``[N, heads, 1, T]``."""
        out, attention = self.self_attention.class_row(self.ln_1(x))
        row = x[:, :1] + self._drop(out)
        return row + self._drop(self.mlp(self.ln_2(row))), attention


class Encoder(nn.Module):
    """Position embedding, the blocks and the last norm, under torchvision's names."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, config.grid**2 + 1, config.width).normal_(std=0.02))
        last = max(config.layers - 1, 1)
        self.layers = nn.ModuleDict(
            {f"encoder_layer_{i}": EncoderBlock(config, drop_path * i / last) for i in range(config.layers)}
        )
        self.ln = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, T, width]`` to the class token ``[N, width]`` and its last attention ``[N, heads, T - 1]``."""
        x = tokens + self.pos_embedding
        *blocks, last = self.layers.values()
        for block in blocks:
            x = block(x)
        row, attention = cast("EncoderBlock", last).class_row(x)
        return self.ln(row[:, 0]), attention[:, :, 0, 1:]


class VisionTransformer(nn.Module):
    """Image to class logits and the class token's attention."""

    def __init__(self, config: ViTConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.conv_proj = nn.Conv2d(3, config.width, kernel_size=config.patch_size, stride=config.patch_size)
        self.encoder = Encoder(config, drop_path)
        head = nn.Linear(config.width, config.classes)
        self.heads = nn.Sequential(OrderedDict(head=head))
        fan_in = 3 * config.patch_size**2
        nn.init.trunc_normal_(self.conv_proj.weight, std=fan_in**-0.5)
        nn.init.zeros_(self.conv_proj.bias)  # type: ignore[arg-type]
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify a batch.

        Args:
            images: ``[N, 3, image_size, image_size]`` float, RGB, normalised as the model was trained.

        Returns:
            Logits ``[N, classes]`` before softmax, and the last block's class-token attention ``[N, heads, grid,
            grid]`` (float32; the share that went to the class token itself is left out, so a map sums to at most 1).
        """
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        feature, attention = self.encoder(tokens)
        grid = self.config.grid
        maps: Tensor = attention.unflatten(2, (grid, grid))
        return self.heads(feature), maps


def resize_position_embedding(embedding: Tensor, grid: int) -> Tensor:
    """Fit a position embedding ``[1, 1 + old_grid**2, width]`` to another grid by bicubic interpolation.

    The class token's entry is kept; the patches' entries are treated as an image (as in Dosovitskiy et al. 2021, 3.2).
    """
    class_entry, patches = embedding[:, :1], embedding[:, 1:]
    old = round(patches.shape[1] ** 0.5)
    if old == grid:
        return embedding
    image = patches.transpose(1, 2).unflatten(2, (old, old))  # type: ignore[no-untyped-call]
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([class_entry, resized.flatten(2).transpose(1, 2)], dim=1)
