"""The gates: what an engine must reach before it may answer; each is met, unmet or not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.backend import Output
from engines.classes import CLASSES, MELANOMA
from engines.verification.compare import BAND, Comparison, risks
from engines.verification.intervals import Figure, Floats, bootstrap, paired_loss, wilson

AGREEMENT: Final = 0.998
CORRELATION: Final = 0.999
SENSITIVITY: Final = 0.90
ACCURACY: Final = 0.84
LATENCY_MS: Final = 2500.0
ACCURACY_LOSS: Final = 0.001

_MELANOMA: Final = CLASSES.index(MELANOMA)


class Outcome(str, Enum):
    """What became of a gate."""

    MET = "met"
    UNMET = "unmet"
    NOT_MEASURED = "not measured"


class Verdict(str, Enum):
    """What became of all gates."""

    PASSED = "passed"
    """Every gate was measured and met."""
    INCOMPLETE = "incomplete"
    """No gate is unmet, but some were not measured."""
    FAILED = "failed"
    """A gate is unmet, or the engine could not be run."""


class Unit(str, Enum):
    """How a figure is to be read."""

    SHARE = "share"
    MS = "ms"
    NUMBER = "number"


@dataclass(frozen=True)
class Gate:
    """One demand and what was measured; ``figure`` is None exactly where it was not measured."""

    name: str
    demand: str
    unit: Unit
    outcome: Outcome
    figure: Figure | None = None
    note: str = ""
    """How it was measured, or why it was not."""


def _gate(name: str, demand: str, unit: Unit, figure: Figure, *, met: bool, note: str = "") -> Gate:
    return Gate(name, demand, unit, Outcome.MET if met else Outcome.UNMET, figure, note)


def _not_measured(name: str, demand: str, unit: Unit, why: str) -> Gate:
    return Gate(name, demand, unit, Outcome.NOT_MEASURED, None, why)


def verdict(gates: Sequence[Gate]) -> Verdict:
    """The verdict of all gates together."""
    outcomes = {gate.outcome for gate in gates}
    if Outcome.UNMET in outcomes:
        return Verdict.FAILED
    return Verdict.INCOMPLETE if Outcome.NOT_MEASURED in outcomes else Verdict.PASSED


def self_test_gates(views: Comparison, tolerance: float) -> list[Gate]:
    """What every device can measure by itself: engine against reference on views of the golden image.

    Args:
        views: of the golden image's views.
        tolerance: the manifest's, of a golden probability.
    """
    note = f"{views.images // 2} views of the golden image, alone and in one batch"
    return [
        _gate(
            "golden image: largest difference of a probability",
            f"≤ {tolerance:g}",
            Unit.NUMBER,
            Figure(views.difference_max),
            met=views.difference_max <= tolerance,
            note=note,
        ),
        *_decision_gates("golden image", views, note),
    ]


def comparison_gates(pictures: Comparison | None, why_not: str = "") -> list[Gate]:
    """Engine against reference on given pictures; ``why_not`` where there are none."""
    name, demand = "pictures: same most probable class", f"≥ {AGREEMENT * 100:g} %"
    if pictures is None:
        return [
            _not_measured(name, demand, Unit.SHARE, why_not),
            _not_measured("pictures: " + _FLIPS, "none", Unit.SHARE, why_not),
            _not_measured("pictures: " + _CORRELATION, f"≥ {CORRELATION:g}", Unit.NUMBER, why_not),
        ]
    return [
        _gate(
            name,
            demand,
            Unit.SHARE,
            pictures.top1_agreement,
            met=pictures.agreeing >= AGREEMENT * pictures.images,
            note=_certain(pictures.top1_agreement, AGREEMENT, f"{pictures.agreeing} of {pictures.images}"),
        ),
        *_decision_gates("pictures", pictures, f"{pictures.images} pictures"),
    ]


_FLIPS: Final = f"decisions changed outside ±{BAND:g} of the threshold"
_CORRELATION: Final = "attention's correlation, lowest"


def _decision_gates(where: str, comparison: Comparison, note: str) -> list[Gate]:
    return [
        _gate(
            f"{where}: {_FLIPS}",
            "none",
            Unit.SHARE,
            wilson(comparison.flips_outside_band, comparison.images),
            met=comparison.flips_outside_band == 0,
            note=f"{comparison.flips_outside_band} of {comparison.images}, {comparison.flips} with those within",
        ),
        _gate(
            f"{where}: {_CORRELATION}",
            f"≥ {CORRELATION:g}",
            Unit.NUMBER,
            Figure(comparison.attention_correlation_lowest),
            met=comparison.attention_correlation_lowest >= CORRELATION,
            note=note,
        ),
    ]


def latency_gate(latencies_ms: Floats, note: str) -> Gate:
    """The time from a picture's file to its answer, decoding and preprocessing included; ``[N]`` in ms."""
    figure = bootstrap(latencies_ms, lambda values: float(np.percentile(values, 95)))
    name, demand = "latency with preprocessing, 95th percentile", f"< {LATENCY_MS:g} ms"
    return _gate(name, demand, Unit.MS, figure, met=figure.value < LATENCY_MS, note=note)


_SENSITIVITY: Final = ("melanoma sensitivity at the threshold", f"> {SENSITIVITY * 100:g} %", Unit.SHARE)
_ACCURACY: Final = ("accuracy, seven classes", f"> {ACCURACY * 100:g} %", Unit.SHARE)
_TOO_FEW: Final = "more pictures would make it certain"
_LOSS: Final = ("accuracy lost against the reference", f"< {ACCURACY_LOSS * 100:g} %", Unit.SHARE)


def unlabelled_gates(why_not: str) -> list[Gate]:
    """The gates that need labels, where there are none."""
    return [_not_measured(*what, why_not) for what in (_SENSITIVITY, _ACCURACY, _LOSS)]


def labelled_gates(reference: Output, engine: Output, labels: NDArray[np.int64], threshold: float) -> list[Gate]:
    """The mission's gates on labelled pictures.

    Args:
        reference: the FP32 reference's answers.
        engine: the engine's.
        labels: ``[N]``, indices of ``engines.classes.CLASSES``.
        threshold: the operating point's melanoma risk.
    """
    hits = engine.probabilities.argmax(axis=1) == labels
    reference_hits = reference.probabilities.argmax(axis=1) == labels
    accuracy = wilson(int(hits.sum()), len(labels))
    lost, gained = int((reference_hits & ~hits).sum()), int((hits & ~reference_hits).sum())
    loss = paired_loss(lost, gained, len(labels))
    accuracy_note = f"{int(hits.sum())} of {len(labels)} right"
    loss_note = f"{lost} lost, {gained} gained of {len(labels)}"
    return [
        _sensitivity_gate(risks(engine) >= threshold, labels == _MELANOMA),
        _gate(*_ACCURACY, accuracy, met=accuracy.value > ACCURACY, note=_certain(accuracy, ACCURACY, accuracy_note)),
        _gate(*_LOSS, loss, met=loss.value < ACCURACY_LOSS, note=_certain(loss, ACCURACY_LOSS, loss_note)),
    ]


def _sensitivity_gate(suspicious: NDArray[np.bool_], positive: NDArray[np.bool_]) -> Gate:
    melanomas = int(positive.sum())
    if melanomas == 0:
        return _not_measured(*_SENSITIVITY, "no picture is labelled melanoma")
    caught = int((suspicious & positive).sum())
    figure = wilson(caught, melanomas)
    note = _certain(figure, SENSITIVITY, f"{caught} of {melanomas} melanomas")
    return _gate(*_SENSITIVITY, figure, met=figure.value > SENSITIVITY, note=note)


def _certain(figure: Figure, limit: float, note: str) -> str:
    """Say where the sample is too small to be sure on which side of the limit the truth lies."""
    sure = figure.low is None or figure.high is None or figure.low > limit or figure.high < limit
    return note if sure else f"{note}; {_TOO_FEW}"
