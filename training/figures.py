"""What a finished model did on images it never saw, as plain data: the content of a bundle's ``figures.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from engines.classes import CLASSES, MELANOMA
from training.calibrate import Calibration
from training.metrics import (
    Figure,
    Floats,
    auroc,
    balanced_accuracy,
    bootstrap,
    expected_calibration_error,
    f1_scores,
    wilson,
)

_MELANOMA = CLASSES.index(MELANOMA)


@dataclass(frozen=True)
class GroupFigures:
    """The figures of one group of images in one view, each with its 95 % interval."""

    part: str
    source: str
    view: str
    images: int
    class_counts: dict[str, int]
    auroc: Figure
    sensitivity: Figure
    specificity: Figure
    argmax_sensitivity: Figure
    """The share of melanomas whose most probable class is melanoma: what a bare argmax would have caught."""
    accuracy: Figure
    balanced_accuracy: Figure
    expected_calibration_error: Figure
    f1: dict[str, Figure]
    """Of the classes that occur in the group."""


@dataclass(frozen=True)
class StageRun:
    """What the log tells of one stage of the training; ``name`` is ``"teacher"`` or the stage's number."""

    name: str
    image_size: int
    epochs: int
    best_epoch: int
    hours: float


@dataclass(frozen=True)
class ThresholdChoice:
    """The operating threshold and what it measured on the images it was chosen on, both views together."""

    threshold: float
    target_sensitivity: float
    sensitivity: Figure
    specificity: Figure


@dataclass(frozen=True)
class Report:
    """All that the model card says in numbers."""

    name: str
    version: str
    architecture: str
    parameters: int
    model_bytes: int
    golden: str
    part_counts: dict[str, dict[str, int]]
    """Images by part and class."""
    stages: tuple[StageRun, ...]
    calibration: Calibration
    threshold: ThresholdChoice
    groups: tuple[GroupFigures, ...]
    tried: str
    """Markdown: what was tried in training, and what helped."""

    def to_json(self) -> str:
        """The report as JSON text."""
        return TypeAdapter(Report).dump_json(self, indent=2).decode() + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """The inverse of :meth:`to_json`."""
        return TypeAdapter(Report).validate_json(text)


def class_counts(labels: NDArray[np.int64]) -> dict[str, int]:
    """Images of each class by name."""
    return dict(zip(CLASSES, np.bincount(labels, minlength=len(CLASSES)).tolist(), strict=True))


def threshold_choice(
    scores: Floats, positive: NDArray[np.bool_], threshold: float, target: float = 0.90
) -> ThresholdChoice:
    """What a threshold measures on melanoma ``scores`` ``[N]``."""
    suspicious = scores >= threshold
    caught, cleared = int((suspicious & positive).sum()), int((~suspicious & ~positive).sum())
    sensitivity, specificity = wilson(caught, int(positive.sum())), wilson(cleared, int((~positive).sum()))
    return ThresholdChoice(threshold, target, _rounded(sensitivity), _rounded(specificity))


def group_figures(
    where: tuple[str, str, str], probabilities: Floats, labels: NDArray[np.int64], threshold: float, rounds: int = 1000
) -> GroupFigures:
    """All figures of one group.

    Proportions carry Wilson's interval, the others one from a bootstrap stratified by class.

    Args:
        where: Part, source and view of the group.
        probabilities: ``[N, 7]``, the model's answers.
        labels: ``[N]``.
        threshold: The operating threshold of the melanoma probability.
        rounds: Resamples of the bootstrap.
    """
    positive = labels == _MELANOMA
    scores, predicted = probabilities[:, _MELANOMA], probabilities.argmax(axis=1)
    hits, argmax_hits = int((predicted == labels).sum()), int((predicted[positive] == _MELANOMA).sum())
    choice = threshold_choice(scores, positive, threshold)
    present = [k for k in range(len(CLASSES)) if (labels == k).any()]

    def interval(statistic: Callable[[NDArray[np.int64]], float]) -> Figure:
        return _rounded(bootstrap(statistic, labels, rounds))

    def f1_of(k: int) -> Callable[[NDArray[np.int64]], float]:
        return lambda i: f1_scores(predicted[i], labels[i], len(CLASSES))[k]

    part, source, view = where
    return GroupFigures(
        part=part,
        source=source,
        view=view,
        images=len(labels),
        class_counts=class_counts(labels),
        auroc=interval(lambda i: auroc(scores[i], positive[i])),
        sensitivity=choice.sensitivity,
        specificity=choice.specificity,
        argmax_sensitivity=_rounded(wilson(argmax_hits, int(positive.sum()))),
        accuracy=_rounded(wilson(hits, len(labels))),
        balanced_accuracy=interval(lambda i: balanced_accuracy(predicted[i], labels[i])),
        expected_calibration_error=interval(lambda i: expected_calibration_error(probabilities[i], labels[i])),
        f1={CLASSES[k]: interval(f1_of(k)) for k in present},
    )


def _rounded(figure: Figure) -> Figure:
    return Figure(**{key: round(value, 4) for key, value in asdict(figure).items()})
