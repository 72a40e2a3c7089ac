"""What decides a training run beside the data: the sizes, rates and strengths of the recipe."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One part of the schedule at one image size; the cosine starts anew in each."""

    image_size: int
    epochs: int
    learning_rate: float
    warmup_epochs: float


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run beside the data."""

    model: str = "vit_ti_16"
    teacher: Stage | None = Stage(160, 26, 1.5e-3, 1)
    """How the convolutional teacher is trained before the transformer; None: no teacher."""
    distil_share: float = 0.7
    """Weight of the teacher's answers in the transformer's loss; the labels have the rest."""
    stages: tuple[Stage, ...] = (Stage(160, 18, 6e-4, 1), Stage(224, 9, 3e-4, 0.5))
    batch: int = 32
    weight_decay: float = 0.01
    drop_path: float = 0.05
    ema_decay: float = 0.998
    mixup_chance: float = 0.3
    mixup_alpha: float = 0.2
    sampler_power: float = 0.5
    """The sampler draws class i with weight ``N_i ** -sampler_power`` per image; class weights balance what remains."""
    patience: int = 15
    """Epochs without a better validation figure after which the second half of a stage ends early."""
    seed: int = 0
