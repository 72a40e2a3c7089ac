"""Turns a network's raw scores into probabilities that mean what they say, and chooses the melanoma threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from training.metrics import Floats, threshold_for_sensitivity

DEVIATION_SPREAD: Final = 0.3
"""Standard deviation, in logits, of the Gaussian prior on a class's own bias. A class of a few validation images
stays at
what its frequency alone says; a class of hundreds finds its own value."""


@dataclass(frozen=True)
class Calibration:
    """``probabilities = softmax(logits / temperature + bias)``, and what the fit did to the validation images' NLL."""

    temperature: float
    bias: tuple[float, ...]
    nll_before: float
    nll_after: float


def calibrated(logits: Floats, temperature: float, bias: Sequence[float]) -> Floats:
    """Logits ``[N, K]`` (or log-probabilities) to calibrated probabilities ``[N, K]``."""
    scores = logits / temperature + np.asarray(bias, float)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)


def negative_log_likelihood(probabilities: Floats, labels: NDArray[np.int64]) -> float:
    """Mean of ``-log p`` of the true classes; ``[N, K]``, ``[N]``."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def fit(logits: Sequence[Floats], labels: NDArray[np.int64], class_counts: NDArray[np.int64]) -> Calibration:
    """Bias-corrected temperature scaling (Alexandari et al. 2020, arXiv:1901.06852), shrunk towards the class
    frequencies.

    Balanced training makes a network answer as if all classes were equally frequent. The bias undoes that:
    ``b_k = s * log(n_k / n) + d_k``, one strength ``s`` for all classes, and a deviation for each that a Gaussian prior
    keeps small where a class has few images. Minimises the NLL over all views of the validation images, each image
    counted once.

    Args:
        logits: For each fixed view ``[N, K]``; log-probabilities do as well, since softmax ignores a row's constant.
        labels: ``[N]``.
        class_counts: ``[K]``, how often each class is met: the training images' counts.

    Returns:
        The temperature and the bias, mean bias 0.
    """
    scores = torch.from_numpy(np.stack(logits)).double()
    targets = torch.from_numpy(labels)
    prior = torch.from_numpy(np.log(class_counts / class_counts.sum())).double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    strength = torch.zeros((), dtype=torch.float64, requires_grad=True)
    deviation = torch.zeros(scores.shape[2], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [log_temperature, strength, deviation], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        optimiser.zero_grad()
        rows = scores / log_temperature.exp() + strength * prior + deviation
        nll = sum(F.cross_entropy(view, targets, reduction="sum") for view in rows) / len(rows)
        penalty = (deviation**2).sum() / (2 * DEVIATION_SPREAD**2)
        loss: torch.Tensor = (nll + penalty) / len(targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        bias = strength * prior + deviation
        bias -= bias.mean()
        temperature, values = float(log_temperature.exp()), tuple(round(float(b), 5) for b in bias)
    before = [negative_log_likelihood(calibrated(view, 1.0, [0.0]), labels) for view in logits]
    after = [negative_log_likelihood(calibrated(view, temperature, values), labels) for view in logits]
    return Calibration(round(temperature, 5), values, float(np.mean(before)), float(np.mean(after)))


def melanoma_threshold(scores: Sequence[Floats], positive: NDArray[np.bool_], sensitivity: float = 0.90) -> float:
    """The highest threshold that reaches ``sensitivity`` in every fixed view, rounded down to four places.

    Taking the lower of the views' own thresholds rather than that of all scores together costs a little specificity,
    and holds the promise for a 4:3 capture and for a square copy alike.
    """
    lowest = min(threshold_for_sensitivity(view, positive, sensitivity) for view in scores)
    return float(np.floor(lowest * 1e4) / 1e4)
