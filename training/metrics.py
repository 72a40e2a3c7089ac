"""Figures of a classifier, with 95 % intervals; numpy only, so that they can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z_95: Final = 1.959964


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def wilson(hits: int, total: int) -> Figure:
    """A proportion with Wilson's score interval (Wilson 1927)."""
    if total == 0:
        return Figure(float("nan"), 0.0, 1.0)
    p, z2 = hits / total, Z_95**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 * np.sqrt(p * (1 - p) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return Figure(p, float(centre - half), float(centre + half))


def auroc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half (Mann-Whitney)."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    ranks = np.empty(len(scores))
    ranks[order] = (np.searchsorted(ordered, ordered, "left") + np.searchsorted(ordered, ordered, "right") + 1) / 2
    n_pos = int(positive.sum())
    n_neg = len(positive) - n_pos
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def sensitivity_at_specificity(scores: Floats, positive: NDArray[np.bool_], specificity: float = 0.85) -> float:
    """The highest sensitivity whose specificity is at least ``specificity``."""
    negatives = np.sort(scores[~positive])
    threshold = negatives[min(int(np.ceil(specificity * len(negatives))), len(negatives)) - 1]
    return float((scores[positive] > threshold).mean())


def threshold_for_sensitivity(scores: Floats, positive: NDArray[np.bool_], sensitivity: float = 0.90) -> float:
    """The highest threshold t for which ``scores >= t`` catches at least ``sensitivity`` of the positives."""
    positives = np.sort(scores[positive])[::-1]
    return float(positives[int(np.ceil(sensitivity * len(positives))) - 1])


def expected_calibration_error(probabilities: Floats, labels: NDArray[np.int64], bins: int = 15) -> float:
    """ECE of the top class in ``bins`` equal-width bins (Guo et al. 2017, arXiv:1706.04599); ``[N, K]``, ``[N]``."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(hit[index == b].mean() - confidence[index == b].mean()) * (index == b).sum() for b in set(index)]
    return float(sum(gaps) / len(labels))


def f1_scores(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> list[float]:
    """Per-class F1; nan where a class occurs neither in the labels nor among the predictions."""
    scores = []
    for k in range(classes):
        both = int(((predicted == k) & (labels == k)).sum())
        total = int((predicted == k).sum() + (labels == k).sum())
        scores.append(2 * both / total if total else float("nan"))
    return scores


def balanced_accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur in ``labels``."""
    return float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)]))


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], labels: NDArray[np.int64], rounds: int = 1000) -> Figure:
    """A statistic of a sample with its percentile interval, resampled within each class (fixed seed).

    Args:
        statistic: From sample indices ``[N]`` to the value.
        labels: Class of each sample ``[N]``.
        rounds: Number of resamples.
    """
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    values = [statistic(np.concatenate([rng.choice(m, len(m)) for m in members])) for _ in range(rounds)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Figure(statistic(np.arange(len(labels))), float(low), float(high))
