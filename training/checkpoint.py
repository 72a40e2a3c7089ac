"""Checkpoints: writing and reading them, and fitting their weights to another image size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from build.vit import VisionTransformer, ViTConfig, resize_position_embedding
from training.teacher import Teacher, TeacherConfig


def enlarge(model: VisionTransformer, config: ViTConfig, drop_path: float) -> VisionTransformer:
    """The same weights in a model for another image size; only the position embedding is interpolated."""
    larger = VisionTransformer(config, drop_path)
    state = model.state_dict()
    key = "encoder.pos_embedding"
    state[key] = resize_position_embedding(state[key], config.grid)
    larger.load_state_dict(state)
    return larger


def save(path: Path, model: VisionTransformer | Teacher, about: Mapping[str, object]) -> None:
    """Write a checkpoint atomically; it loads with ``torch.load(..., weights_only=True)``."""
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "config": asdict(model.config), "about": dict(about)}, temporary)
    temporary.replace(path)


def load_teacher(path: Path) -> Teacher:
    """Read a teacher that :func:`save` wrote."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    model = Teacher(TeacherConfig(**content["config"]))
    model.load_state_dict(content["model"])
    return model


def load(path: Path) -> VisionTransformer:
    """Read a transformer that :func:`save` wrote."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    model = VisionTransformer(ViTConfig(**content["config"]))
    model.load_state_dict(content["model"])
    return model
