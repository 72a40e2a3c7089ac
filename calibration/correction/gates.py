"""The gates: whether a fit may become a profile, and whether a second shot still agrees with one.

All limits are engineering choices: no standard says how true a dermoscope's colours must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.colour import Floats
from calibration.correction.colour_model import LUMINANCE
from calibration.correction.figures import Figures
from calibration.correction.fit import Fit


class Outcome(str, Enum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105
    MARGINAL = "marginal"
    """Usable, and worth another try; an override is not needed."""
    FAIL = "fail"


class MeasuredPatches(Protocol):
    """What the gates look at of a chart's measured patches, N of them in the reference's order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def linear(self) -> NDArray[np.float64]:
        """float64 [N,3], linear light 0..1."""

    @property
    def variation(self) -> NDArray[np.float64]:
        """float64 [N], coefficient of variation within the patch."""

    @property
    def clipped(self) -> NDArray[np.bool_]:
        """Flags [N]: a channel at its top."""

    @property
    def crushed(self) -> NDArray[np.bool_]:
        """Flags [N]: a channel at its bottom."""


@dataclass(frozen=True)
class Limits:
    """CIEDE2000 where not said otherwise; held against leave-one-out figures for a fit."""

    mean: float = 3.0
    p95: float = 6.0
    max: float = 10.0
    marginal_mean: float = 5.0
    marginal_p95: float = 10.0
    marginal_max: float = 16.0
    """Above these a fit fails; between the two rows it is marginal."""
    variation: float = 0.05
    """Coefficient of variation within a patch."""
    noise: float = 0.002
    """Unevenness in linear light (of white) that is forgiven beside that: in dark patches the camera's last bit and
    JPEG's blocks weigh more than any reflection."""
    overfit: float = 1.5
    """Leave-one-out mean over in-sample mean."""
    overfit_from: float = 1.0
    """Leave-one-out mean below which that ratio says nothing."""
    condition: float = 12.0
    """Of the model's 3x3 slope at mid grey: above it, noise of one channel becomes the colour of another."""
    gain: float = 6.0
    """Largest and (as 1 / gain) smallest change of brightness of mid grey."""
    unevenness: float = 0.5
    """Brightest over darkest corner of the chart, less 1: above it a fit is marginal."""
    warn_rise: float = 2.0
    block_rise: float = 4.0
    """Mean above commissioning from which a re-shot chart warns, and blocks."""

    def __post_init__(self) -> None:
        steps = (
            (self.mean, self.marginal_mean),
            (self.p95, self.marginal_p95),
            (self.max, self.marginal_max),
            (self.warn_rise, self.block_rise),
        )
        if min(vars(self).values()) <= 0.0 or any(lower > upper for lower, upper in steps):
            raise ValueError("limits are above 0, and those for a pass are not above those for a marginal result")


@dataclass(frozen=True)
class Judgement:
    """An outcome and, unless it is a plain pass, why: sentences that say what to do."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()


DEFAULT = Limits()


def judge(fit: Fit, patches: MeasuredPatches, limits: Limits = DEFAULT) -> Judgement:
    """Whether a fit may become a profile.

    Args:
        fit: what `calibration.correction.fit.fit` gave.
        patches: what it was made from, all patches in the reference's order, flat-field gain applied to ``linear``.
        limits: the gates.
    """
    findings = [
        *_of_patches(patches, limits),
        *_of_greys(patches.linear, fit),
        *_of_model(fit, limits),
        *_of_figures(fit.leave_one_out, limits, "shoot the chart again, flat, clean and without reflections"),
    ]
    return _judgement(findings)


def judge_second_shot(
    figures: Figures,
    patches: MeasuredPatches,
    commissioning: float | None = None,
    limits: Limits = DEFAULT,
) -> Judgement:
    """Whether a second shot of the chart, seen through a profile, agrees with it.

    Args:
        figures: of the second shot, from `calibration.correction.fit.examine`.
        patches: the second shot's.
        commissioning: the mean CIEDE2000 that the profile had then; None for the shot that lets it be activated.
        limits: the gates; the absolute ones and, where ``commissioning`` is given, the rise above it.
    """
    findings = [*_of_patches(patches, limits)]
    findings += _of_figures(figures, limits, "use the light of the fit, or fit a new profile")
    if commissioning is not None:
        rise = figures.mean - commissioning
        told = (
            f"The chart is {figures.mean:.1f} from its true colours on average, {rise:.1f} more than at commissioning"
        )
        if rise >= limits.block_rise:
            findings.append(_fail(f"{told}: clean lens and chart and shoot again, then fit a new profile."))
        elif rise >= limits.warn_rise:
            findings.append(_marginal(f"{told}: clean lens and chart and plan a new fit."))
    return _judgement(findings)


_Finding = tuple[Outcome, str]


def _fail(sentence: str) -> _Finding:
    return Outcome.FAIL, sentence


def _marginal(sentence: str) -> _Finding:
    return Outcome.MARGINAL, sentence


def _judgement(findings: Iterable[_Finding]) -> Judgement:
    found = list(findings)
    for outcome in (Outcome.FAIL, Outcome.MARGINAL):
        if any(finding[0] is outcome for finding in found):
            found.sort(key=lambda finding: finding[0] is not Outcome.FAIL)
            return Judgement(outcome, tuple(sentence for _, sentence in found))
    return Judgement(Outcome.PASS)


def _of_patches(patches: MeasuredPatches, limits: Limits) -> Iterator[_Finding]:
    names = np.array(patches.names)
    if patches.clipped.any():
        yield _fail(
            f"Over-exposed: {_listed(names[patches.clipped])} reached the camera's white; "
            "lower the exposure or the light and shoot again.",
        )
    if patches.crushed.any():
        yield _fail(
            f"Under-exposed: {_listed(names[patches.crushed])} fell to the camera's black; "
            "raise the exposure or the light and shoot again.",
        )
    limit = np.hypot(limits.variation, limits.noise / np.maximum(patches.linear @ LUMINANCE, limits.noise))
    uneven = patches.variation > limit
    if uneven.any():
        worst = float(patches.variation[uneven].max())
        yield _fail(
            f"{_listed(names[uneven])} {'is' if uneven.sum() == 1 else 'are'} uneven by up to {worst:.0%} "
            "(dirt, a reflection, a shadow or an edge); wipe the chart, turn it out of the reflection and shoot again.",
        )


def _of_greys(linear: Floats, fit: Fit) -> Iterator[_Finding]:
    neutral = list(fit.reference.neutral)
    if len(neutral) >= 2 and bool((np.diff(linear[neutral], axis=0) >= 0.0).any()):
        yield _fail(
            "The grey patches do not get darker from white to black; uncover them, even the light, lower the exposure "
            "and shoot again.",
        )


def _of_model(fit: Fit, limits: Limits) -> Iterator[_Finding]:
    slope = fit.model.slope()
    sizes = np.linalg.svd(slope, compute_uv=False)
    condition = float(sizes[0] / sizes[-1]) if sizes[-1] > 0.0 else float("inf")
    if condition > limits.condition or np.linalg.det(slope) <= 0.0:
        yield _fail(
            f"The correction is ill-conditioned ({condition:.0f}, limit {limits.condition:g}): the camera hardly tells "
            "colours apart; check that it records colour, its white balance and the light, and shoot again.",
        )
    gain = float((fit.model.apply(np.full(3, 0.18)) @ LUMINANCE) / 0.18)
    if not 1.0 / limits.gain <= gain <= limits.gain:
        way, remedy = ("dark", "raise") if gain > 1.0 else ("bright", "lower")
        yield _fail(f"The shot is far too {way} (factor {gain:.2g}); {remedy} the exposure and shoot again.")
    if fit.unevenness > limits.unevenness:
        yield _marginal(
            f"The light on one side of the chart is {fit.unevenness:.0%} brighter than on the other; "
            "even it, or make a flat field first.",
        )
    left_out, whole = fit.leave_one_out.mean, fit.in_sample.mean
    if left_out > limits.overfit_from and left_out > limits.overfit * whole:
        yield _fail(
            f"The correction fits its own patches ({whole:.1f}) much better than others ({left_out:.1f}): "
            "single patches are wrong; clean the chart, take reflections away and shoot again.",
        )


def _of_figures(figures: Figures, limits: Limits, remedy: str) -> Iterator[_Finding]:
    rows = (
        ("on average", figures.mean, limits.mean, limits.marginal_mean),
        ("at the 95th percentile", figures.p95, limits.p95, limits.marginal_p95),
        ("for the worst patch", figures.max, limits.max, limits.marginal_max),
    )
    for what, value, limit, last in rows:
        if not value <= limit:  # so that no number passes that is none
            outcome = Outcome.MARGINAL if value <= last else Outcome.FAIL
            yield (outcome, f"The colours are {value:.1f} off {what} (CIEDE2000, limit {limit:g}): {remedy}.")


def _listed(names: Sequence[str] | NDArray[np.str_]) -> str:
    words = [str(name) for name in names]
    if len(words) > 4:
        return f"{', '.join(words[:3])} and {len(words) - 3} more patches"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
