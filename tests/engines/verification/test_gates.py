"""Each gate on both sides of its limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engines.backend import Output
from engines.verification.compare import compare
from engines.verification.gates import (
    Gate,
    Outcome,
    Verdict,
    comparison_gates,
    labelled_gates,
    latency_gate,
    self_test_gates,
    unlabelled_gates,
    verdict,
)
from tests.engines.verification.answers import made_up, with_risks

THRESHOLD = 0.2


def outcomes(gates: Sequence[Gate]) -> list[Outcome]:
    return [gate.outcome for gate in gates]


def certain(labels: Sequence[int], risk: float = 0.0) -> Output:
    """Answers that are sure of these classes; ``risk`` is the melanomas'."""
    probabilities = np.full((len(labels), 7), 0.0, np.float32)
    for row, label in enumerate(labels):
        probabilities[row, label] = 1.0
        if label == 0:
            probabilities[row] = [risk, 0, 0, 0, 1 - risk, 0, 0]
    return Output(probabilities, np.zeros((len(labels), 14, 14), np.float32))


@pytest.mark.parametrize(("wrong", "outcome"), [(0, Outcome.MET), (1, Outcome.MET), (2, Outcome.UNMET)])
def test_two_in_a_thousand_may_have_another_first_class(wrong: int, outcome: Outcome) -> None:
    reference = made_up([0.9] * 500)
    probabilities = reference.probabilities.copy()
    probabilities[:wrong] = np.roll(probabilities[:wrong], 1, axis=1)
    engine = Output(probabilities, reference.attention)
    gate = comparison_gates(compare(reference, engine, 0.0))[0]
    assert gate.outcome is outcome
    assert gate.note.startswith(f"{500 - wrong} of 500")
    assert "more pictures would make it certain" in gate.note


def test_one_decision_changed_far_from_the_threshold_is_one_too_many() -> None:
    reference = made_up([0.198] * 9 + [0.15])
    near = with_risks(reference, [0.201] * 9 + [0.16])
    far = with_risks(reference, [0.201] * 9 + [0.21])
    assert comparison_gates(compare(reference, near, THRESHOLD))[1].outcome is Outcome.MET
    gate = comparison_gates(compare(reference, far, THRESHOLD))[1]
    assert gate.outcome is Outcome.UNMET
    assert gate.note == "1 of 10, 10 with those within"


def test_attention_that_drifts_is_unmet() -> None:
    reference = made_up([0.5] * 4)
    noise = np.random.default_rng(1).normal(0, 1, reference.attention.shape).astype(np.float32)
    for size, outcome in ((1e-5, Outcome.MET), (1e-3, Outcome.UNMET)):
        engine = Output(reference.probabilities, np.abs(reference.attention + size * noise).astype(np.float32))
        assert comparison_gates(compare(reference, engine, THRESHOLD))[2].outcome is outcome


@pytest.mark.parametrize(("moved", "outcome"), [(0.009, Outcome.MET), (0.011, Outcome.UNMET)])
def test_the_golden_image_keeps_to_the_manifests_tolerance(moved: float, outcome: Outcome) -> None:
    reference = made_up([0.5, 0.6])
    engine = with_risks(reference, [0.5, 0.6 + moved])
    assert self_test_gates(compare(reference, engine, THRESHOLD), 0.01)[0].outcome is outcome


@pytest.mark.parametrize(("slow", "outcome"), [(4, Outcome.MET), (6, Outcome.UNMET)])
@pytest.mark.requirement("R-MOD-4")
def test_one_in_twenty_may_be_slow(slow: int, outcome: Outcome) -> None:
    latencies = np.array([3000.0] * slow + [200.0] * (100 - slow))
    assert latency_gate(latencies, "").outcome is outcome


@pytest.mark.parametrize(("caught", "outcome"), [(91, Outcome.MET), (90, Outcome.UNMET)])
@pytest.mark.requirement("R-MOD-4")
def test_sensitivity_is_more_than_nine_in_ten_at_the_threshold(caught: int, outcome: Outcome) -> None:
    """What counts is the risk, not the first class: none of these says melanoma first."""
    labels = np.zeros(100, np.int64)
    engine = certain([0] * 100)
    engine.probabilities[:caught] = certain([0], risk=0.3).probabilities
    gate = labelled_gates(engine, engine, labels, THRESHOLD)[0]
    assert gate.outcome is outcome
    assert gate.note.startswith(f"{caught} of 100 melanomas")
    assert gate.figure is not None
    assert gate.figure.value == caught / 100


@pytest.mark.parametrize(("right", "outcome"), [(85, Outcome.MET), (84, Outcome.UNMET)])
@pytest.mark.requirement("R-MOD-4")
def test_accuracy_is_more_than_84_in_a_hundred(right: int, outcome: Outcome) -> None:
    engine = certain([4] * right + [5] * (100 - right))
    assert labelled_gates(engine, engine, np.full(100, 4), THRESHOLD)[1].outcome is outcome


@pytest.mark.parametrize(
    ("lost", "gained", "outcome"),
    [(0, 0, Outcome.MET), (1, 0, Outcome.UNMET), (3, 3, Outcome.MET), (0, 5, Outcome.MET)],
)
@pytest.mark.requirement("R-MOD-4")
def test_a_tenth_of_a_percent_of_accuracy_may_be_lost(lost: int, gained: int, outcome: Outcome) -> None:
    labels = np.full(500, 4)
    reference = certain([4] * (500 - gained) + [5] * gained)
    engine = certain([5] * lost + [4] * (500 - lost))
    gate = labelled_gates(reference, engine, labels, THRESHOLD)[2]
    assert gate.outcome is outcome
    assert gate.note.startswith(f"{lost} lost, {gained} gained of 500")


def test_no_melanoma_no_sensitivity() -> None:
    engine = certain([4] * 10)
    gate = labelled_gates(engine, engine, np.full(10, 4), THRESHOLD)[0]
    assert (gate.outcome, gate.figure) == (Outcome.NOT_MEASURED, None)
    assert gate.note == "no picture is labelled melanoma"


def test_what_was_not_measured_is_never_met() -> None:
    gates = [*comparison_gates(None, "no pictures"), *unlabelled_gates("no labels")]
    assert set(outcomes(gates)) == {Outcome.NOT_MEASURED}
    assert all(gate.figure is None and gate.note for gate in gates)
    assert verdict(gates) is Verdict.INCOMPLETE


def test_the_verdict_is_the_worst_gates() -> None:
    met = latency_gate(np.full(20, 10.0), "")
    unmet = latency_gate(np.full(20, 9000.0), "")
    missing = unlabelled_gates("no labels")[0]
    assert verdict([met, met]) is Verdict.PASSED
    assert verdict([met, missing]) is Verdict.INCOMPLETE
    assert verdict([missing, unmet, met]) is Verdict.FAILED
