"""What lies between two sets of answers."""

from __future__ import annotations

import numpy as np
import pytest

from engines.backend import Output
from engines.verification.compare import attention_correlations, compare
from tests.engines.verification.answers import made_up, with_risks

THRESHOLD = 0.2


def test_the_same_answers_are_the_same() -> None:
    answers = made_up([0.1, 0.5, 0.9, 0.2])
    found = compare(answers, answers, THRESHOLD)
    assert (found.images, found.agreeing, found.flips, found.flips_outside_band) == (4, 4, 0, 0)
    assert found.difference_max == 0.0
    assert found.attention_correlation_lowest == pytest.approx(1.0)


def test_a_flip_near_the_threshold_is_told_from_one_far_off() -> None:
    reference = made_up([0.198, 0.19, 0.202, 0.3])
    engine = with_risks(reference, [0.201, 0.21, 0.199, 0.1])
    found = compare(reference, engine, THRESHOLD)
    assert found.flips == 4
    assert found.flips_outside_band == 2  # 0.19 and 0.3 were further than 0.005 off
    assert found.risk_difference_max == pytest.approx(0.2, abs=1e-6)
    assert found.farthest == 3


def test_a_risk_of_exactly_the_threshold_is_suspicious() -> None:
    threshold = float(np.float32(0.25))
    reference = made_up([0.25])
    assert compare(reference, with_risks(reference, [0.26]), threshold).flips == 0
    assert compare(reference, with_risks(reference, [0.24]), threshold).flips == 1


def test_another_first_class_is_a_disagreement() -> None:
    reference = made_up([0.9, 0.9, 0.9, 0.9])
    swapped = reference.probabilities.copy()
    swapped[0] = np.roll(swapped[0], 1)
    found = compare(reference, Output(swapped, reference.attention), THRESHOLD)
    assert found.agreeing == 3
    assert found.top1_agreement.value == 0.75
    assert found.difference_mean == pytest.approx(
        float(np.abs(swapped.astype(float) - reference.probabilities).mean()), abs=1e-9
    )


def test_the_lowest_correlation_is_of_the_picture_that_went_wrong() -> None:
    reference = made_up([0.1] * 5)
    attention = reference.attention.copy()
    attention[2] = attention[2].T
    found = compare(reference, Output(reference.probabilities, attention), THRESHOLD)
    expected = float(np.corrcoef(reference.attention[2].ravel(), attention[2].ravel())[0, 1])
    assert found.attention_correlation_lowest == pytest.approx(expected, abs=1e-6)
    assert found.attention_correlation_mean.value == pytest.approx((4 + expected) / 5, abs=1e-6)


def test_a_map_without_contrast_agrees_only_with_another() -> None:
    flat = np.full((1, 14, 14), 1 / 196, np.float32)
    other = made_up([0.1]).attention
    assert attention_correlations(flat, flat) == [1.0]
    assert attention_correlations(flat, other) == [0.0]
    assert attention_correlations(other, flat) == [0.0]


def test_answers_to_other_pictures_are_not_compared() -> None:
    with pytest.raises(ValueError, match="2 answers of the reference and 1 of the engine"):
        compare(made_up([0.1, 0.2]), made_up([0.1]), THRESHOLD)
    with pytest.raises(ValueError, match="0 answers"):
        compare(made_up([]), made_up([]), THRESHOLD)
