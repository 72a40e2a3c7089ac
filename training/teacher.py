"""A small residual network (He et al. 2016, arXiv:1512.03385) that the transformer learns from, itself from nothing.

A convolutional network is built to know what a transformer must be shown: that neighbouring pixels belong together.
Its softened answers on the same views are what the transformer learns from beside the labels (Touvron et al. 2021,
arXiv:2012.12877). The teacher never leaves training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TeacherConfig:
    """Sizes of the teacher: channels of the four levels, and residual blocks in each."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    classes: int = 7


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm_1 = nn.BatchNorm2d(channels_out)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm_2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        nn.init.zeros_(self.norm_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C', H / stride, W / stride]``."""
        branch = self.norm_2(self.conv_2(F.relu(self.norm_1(self.conv_1(x)), inplace=True)))
        return F.relu(branch + self.shortcut(x), inplace=True)


class Teacher(nn.Module):
    """Image to class logits; any image size."""

    def __init__(self, config: TeacherConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        levels: list[nn.Module] = []
        channels = first
        for level, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for block in range(blocks):
                levels.append(ResidualBlock(channels, width, 2 if level and not block else 1))
                channels = width
        self.levels = nn.Sequential(*levels)
        self.head = nn.Linear(channels, config.classes)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """``[N, 3, S, S]`` float, normalised, to logits ``[N, classes]``; no attention."""
        x = images.contiguous(memory_format=torch.channels_last)
        return self.head(self.levels(self.stem(x)).mean(dim=(2, 3))), None
