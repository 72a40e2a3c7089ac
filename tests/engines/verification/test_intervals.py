"""Intervals against values worked out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from engines.verification.intervals import bootstrap, paired_loss, wilson


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (499, 500, 0.98875, 0.99965)],
)
def test_wilsons_interval_is_the_textbooks(hits: int, total: int, low: float, high: float) -> None:
    figure = wilson(hits, total)
    assert figure.value == hits / total
    assert figure.low == pytest.approx(low, abs=1e-4)
    assert figure.high == pytest.approx(high, abs=1e-4)


@pytest.mark.parametrize(("hits", "total"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_proportion_is_refused(hits: int, total: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson(hits, total)


def test_a_loss_nobody_saw_is_not_called_impossible() -> None:
    figure = paired_loss(0, 0, 500)
    assert figure.value == 0.0
    assert figure.high == pytest.approx(0.00763, abs=1e-4)
    assert figure.low == pytest.approx(-0.00763, abs=1e-4)


def test_a_loss_is_what_was_lost_without_what_was_gained() -> None:
    figure = paired_loss(30, 10, 200)
    assert figure.value == pytest.approx(0.1)
    assert figure.low is not None
    assert figure.high is not None
    assert 0.03 < figure.low < 0.1 < figure.high < 0.17


def test_the_bootstrap_covers_the_mean_and_repeats_itself() -> None:
    values = np.random.default_rng(5).normal(10, 2, 400)
    figure = bootstrap(values, lambda sample: float(sample.mean()))
    assert figure == bootstrap(values, lambda sample: float(sample.mean()))
    assert figure.low is not None
    assert figure.high is not None
    half = 1.96 * values.std() / 20
    assert figure.high - figure.value == pytest.approx(half, rel=0.15)
    assert figure.value - figure.low == pytest.approx(half, rel=0.15)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap(np.empty(0), lambda sample: float(sample.mean()))
