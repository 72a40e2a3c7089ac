"""Every figure against a count by hand, a brute force, or a published value."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics import (
    auroc,
    balanced_accuracy,
    bootstrap,
    expected_calibration_error,
    f1_scores,
    sensitivity_at_specificity,
    threshold_for_sensitivity,
    wilson,
)


def test_auroc_equals_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, 80) / 12  # many ties
    positive = rng.random(80) < 0.3
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(pairs))
    assert auroc(np.array([0.1, 0.2, 0.9]), np.array([False, False, True])) == 1.0
    assert auroc(np.zeros(4), np.array([True, False, True, False])) == 0.5


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Newcombe 1998 (Stat Med 17:857), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(hits: int, total: int, low: float, high: float) -> None:
    figure = wilson(hits, total)
    assert (figure.low, figure.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert figure.value == hits / total


def test_wilson_of_nothing_knows_nothing() -> None:
    figure = wilson(0, 0)
    assert np.isnan(figure.value)
    assert (figure.low, figure.high) == (0.0, 1.0)


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 0.95, 1.0])
def test_threshold_is_the_highest_that_reaches_the_sensitivity(wanted: float) -> None:
    rng = np.random.default_rng(1)
    scores, positive = rng.random(200).round(2), rng.random(200) < 0.2
    threshold = threshold_for_sensitivity(scores, positive, wanted)
    assert (scores[positive] >= threshold).mean() >= wanted
    higher = min(scores[positive][scores[positive] > threshold], default=None)
    assert higher is None or (scores[positive] >= higher).mean() < wanted


def test_sensitivity_at_specificity_by_hand() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.35, 0.05, 0.9])
    positive = np.array([False, False, False, False, True, True, True])
    # Specificity 0.75 allows one negative (0.4) above the threshold 0.3: 0.35 and 0.9 are caught.
    assert sensitivity_at_specificity(scores, positive, 0.75) == pytest.approx(2 / 3)
    assert sensitivity_at_specificity(scores, positive, 1.0) == pytest.approx(1 / 3)


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    # Bin of 0.9: half right, gap 0.4, two images. Bin of 0.6: all right, gap 0.4, two images.
    assert expected_calibration_error(probabilities, labels, bins=10) == pytest.approx(0.4)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0


def test_f1_and_balanced_accuracy_by_hand() -> None:
    predicted, labels = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    assert f1_scores(predicted, labels, 2) == [pytest.approx(2 / 3), pytest.approx(4 / 5)]
    assert np.isnan(f1_scores(predicted, labels, 3)[2])
    assert balanced_accuracy(predicted, labels) == pytest.approx((1 + 2 / 3) / 2)


def test_bootstrap_resamples_within_classes_and_covers_the_value() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    shares: list[float] = []

    def share(index: np.ndarray) -> float:
        shares.append(float(labels[index].mean()))
        return shares[-1]

    bootstrap(share, labels, rounds=20)
    assert set(shares) == {0.25}
    values = np.random.default_rng(0).normal(size=40)
    figure = bootstrap(lambda i: float(values[i].mean()), labels, rounds=400)
    assert figure.low < figure.value < figure.high
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.25)
