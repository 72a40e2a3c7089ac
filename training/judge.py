"""How good a model in training is: its logits in the fixed views, and the figures that choose the best epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from engines.classes import CLASSES, MELANOMA
from training.augment import View, fixed_view
from training.data import ImageSet
from training.metrics import auroc, balanced_accuracy, sensitivity_at_specificity

MELANOMA_INDEX: Final = CLASSES.index(MELANOMA)


@dataclass(frozen=True)
class Judgement:
    """How a model did on a part, the two fixed views averaged."""

    sensitivity_at_85: float
    auroc: float
    balanced_accuracy: float
    loss: float


def predict(model: torch.nn.Module, images: ImageSet, size: int, view: View, batch: int = 128) -> Tensor:
    """Logits ``[N, 7]`` float32 of the images in one fixed view."""
    model.eval()
    device = next(model.parameters()).device
    rows = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for start in range(0, len(images.labels), batch):
            views = np.stack([fixed_view(rgb, size, view) for rgb in images.pixels[start : start + batch]])
            rows.append(model(torch.from_numpy(views).permute(0, 3, 1, 2).to(device))[0].float().cpu())
    return torch.cat(rows)


def judge(model: torch.nn.Module, images: ImageSet, size: int) -> Judgement:
    """Judge a model on labelled images, averaging the figures of both fixed views."""
    figures = []
    for view in View:
        logits = predict(model, images, size, view)
        probabilities = logits.double().softmax(dim=1).numpy()
        positive = images.labels == MELANOMA_INDEX
        scores = probabilities[:, MELANOMA_INDEX]
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(images.labels)).item()
        predicted = probabilities.argmax(axis=1)
        figures.append(
            (
                sensitivity_at_specificity(scores, positive),
                auroc(scores, positive),
                balanced_accuracy(predicted, images.labels),
                loss,
            )
        )
    return Judgement(*(float(v) for v in np.mean(figures, axis=0)))
