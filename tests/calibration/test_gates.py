"""Every gate both ways: what it lets pass, and what it stops, with the sentence that the technician reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.correction.examination import places
from calibration.correction.figures import Figures
from calibration.correction.fit import Fit, Shape, examine, fit
from calibration.correction.gates import Judgement, Limits, Outcome, judge, judge_second_shot
from calibration.references import COLORCHECKER24
from tests.fakes.chart_patches import SCOPE, FakePatches, patches, record

GOOD = Figures(2.0, 4.0, 6.0, 1.0)


def fitted(linear: np.ndarray, **options: object) -> tuple[Fit, FakePatches]:
    return fit(linear, COLORCHECKER24, **options), patches(linear)


@pytest.fixture(scope="module")
def good() -> tuple[Fit, FakePatches]:
    return fitted(record(noise=0.01))


def with_figures(fit_: Fit, left_out: Figures, whole: Figures | None = None) -> Fit:
    after = replace(fit_.after, figures=whole or left_out)
    return replace(fit_, left_out=replace(fit_.left_out, figures=left_out), after=after)


def said(judgement: Judgement) -> str:
    return " ".join(judgement.reasons)


def test_a_good_shot_passes_without_a_word(good):
    assert judge(*good) == Judgement(Outcome.PASS)


@pytest.mark.parametrize(
    ("figures", "outcome"),
    [
        (Figures(3.0, 6.0, 10.0, 0.0), Outcome.PASS),
        (Figures(3.01, 6.0, 10.0, 0.0), Outcome.MARGINAL),
        (Figures(3.0, 6.01, 10.0, 0.0), Outcome.MARGINAL),
        (Figures(3.0, 6.0, 10.01, 0.0), Outcome.MARGINAL),
        (Figures(5.0, 10.0, 16.0, 0.0), Outcome.MARGINAL),
        (Figures(5.01, 6.0, 10.0, 0.0), Outcome.FAIL),
        (Figures(3.0, 10.01, 10.0, 0.0), Outcome.FAIL),
        (Figures(3.0, 6.0, 16.01, 0.0), Outcome.FAIL),
        (Figures(float("nan"), 6.0, 10.0, 0.0), Outcome.FAIL),
    ],
)
def test_figures_are_held_against_the_limits(good, figures, outcome):
    judgement = judge(with_figures(good[0], figures), good[1])
    assert judgement.outcome is outcome
    assert bool(judgement.reasons) == (outcome is not Outcome.PASS)
    second = judge_second_shot(figures, good[1])
    assert second.outcome is outcome


def test_leave_one_out_is_what_counts(good):
    whole, left_out = Figures(2.9, 4.0, 6.0, 1.0), Figures(3.5, 5.0, 8.0, 1.0)
    assert judge(with_figures(good[0], left_out, whole), good[1]).outcome is Outcome.MARGINAL


def test_limits_can_be_set(good):
    figures = Figures(2.0, 4.0, 6.0, 0.0)
    strict = Limits(mean=1.0, marginal_mean=1.5)
    assert judge(with_figures(good[0], figures), good[1], strict).outcome is Outcome.FAIL
    loose = Limits(mean=7.0, marginal_mean=8.0)
    assert judge(with_figures(good[0], replace(figures, mean=6.5)), good[1], loose).outcome is Outcome.PASS


@pytest.mark.parametrize("wrong", [{"mean": 6.0}, {"mean": 0.0}, {"variation": -1.0}, {"warn_rise": 5.0}])
def test_limits_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ValueError, match="limits are above 0"):
        Limits(**wrong)


@pytest.mark.parametrize(("field", "word"), [("clipped", "Over-exposed"), ("crushed", "Under-exposed")])
def test_a_clipped_or_crushed_patch_is_refused(good, field, word):
    flags = np.arange(24) == 18
    for judgement in (
        judge(good[0], replace(good[1], **{field: flags})),
        judge_second_shot(GOOD, replace(good[1], **{field: flags})),
    ):
        assert judgement.outcome is Outcome.FAIL
        assert f"{word}: white" in said(judgement)


@pytest.mark.parametrize(
    ("patch", "variation", "outcome"),
    [
        (1, 0.05, Outcome.PASS),
        (1, 0.06, Outcome.FAIL),
        (23, 0.06, Outcome.PASS),  # black: the last bit is 3 % of it
        (23, 0.20, Outcome.FAIL),
    ],
)
def test_an_uneven_patch_is_refused(good, patch, variation, outcome):
    uneven = good[1].variation.copy()
    uneven[patch] = variation
    judgement = judge(good[0], replace(good[1], variation=uneven))
    assert judgement.outcome is outcome
    assert ("uneven by up to" in said(judgement)) == (outcome is Outcome.FAIL)


def test_overfitting_is_refused(good):
    whole = Figures(1.0, 2.0, 3.0, 0.5)
    assert judge(with_figures(good[0], replace(whole, mean=1.49), whole), good[1]).outcome is Outcome.PASS
    judgement = judge(with_figures(good[0], replace(whole, mean=1.51), whole), good[1])
    assert judgement.outcome is Outcome.FAIL
    assert "single patches are wrong" in said(judgement)
    # Where all is below what an eye can see, a ratio says nothing.
    tiny = replace(whole, mean=0.2)
    assert judge(with_figures(good[0], replace(whole, mean=0.9), tiny), good[1]).outcome is Outcome.PASS


def test_an_ill_conditioned_model_is_refused():
    mix = np.full((3, 3), 1 / 3)
    for share, refused in ((0.5, False), (0.9, True), (1.0, True)):
        linear = record(share * mix + (1 - share) * SCOPE, noise=0.001)
        judgement = judge(*fitted(linear))
        assert ("ill-conditioned" in said(judgement)) == refused


def test_a_grey_only_picture_fails():
    grey = record() @ np.full((3, 3), 1 / 3)
    judgement = judge(*fitted(grey))
    assert judgement.outcome is Outcome.FAIL
    assert "records colour" in said(judgement)


def test_a_grey_ramp_that_does_not_fall_is_refused(good):
    assert "grey patches" not in said(judge(*good))
    linear = record(noise=0.01)
    linear[20, 2] = linear[19, 2]  # one channel of one patch is enough
    judgement = judge(good[0], patches(linear))
    assert judgement.outcome is Outcome.FAIL
    assert "grey patches do not get darker" in said(judgement)


@pytest.mark.parametrize(("exposure", "word"), [(0.9, ""), (0.2, ""), (0.1, "too dark")])
def test_a_shot_that_is_far_too_dark_is_refused(exposure, word):
    judgement = judge(*fitted(record(exposure=exposure)))
    assert (judgement.outcome is Outcome.FAIL) == bool(word)
    assert word in said(judgement)


def test_very_uneven_light_is_marginal():
    for tilt, outcome in ((0.1, Outcome.PASS), (0.3, Outcome.MARGINAL)):
        slope = np.exp(places(COLORCHECKER24) @ [tilt, 0.0])[:, None]
        linear = record(exposure=0.6) * slope
        judgement = judge(*fitted(linear, shapes=[Shape(tilt=True)]))
        assert judgement.outcome is outcome
        assert ("flat field" in said(judgement)) == (outcome is Outcome.MARGINAL)


def test_covered_patches_fail():
    linear = record()
    linear[[0, 1, 2, 6, 7, 8, 12, 13, 18, 19]] = (0.08, 0.15, 0.04)  # a leaf
    result, seen = fitted(linear)
    assert result.leave_one_out.mean > 10.0
    assert judge(result, seen).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("rise", "outcome"),
    [(0.0, Outcome.PASS), (1.99, Outcome.PASS), (2.0, Outcome.MARGINAL), (3.99, Outcome.MARGINAL), (4.0, Outcome.FAIL)],
)
def test_a_second_shot_warns_at_2_and_blocks_at_4(good, rise, outcome):
    judgement = judge_second_shot(Figures(0.5 + rise, 4.0, 6.0, 1.0), good[1], 0.5, Limits(mean=5.0))
    assert judgement.outcome is outcome
    assert ("more than at commissioning" in said(judgement)) == (outcome is not Outcome.PASS)


def test_another_lamp_is_blocked(good):
    model = good[0].model
    same = examine(model, record(noise=0.01, seed=2), COLORCHECKER24).figures
    other = examine(model, record(light=(1.0, 0.8, 0.4)), COLORCHECKER24).figures
    commissioning = good[0].in_sample.mean
    assert judge_second_shot(same, good[1], commissioning).outcome is Outcome.PASS
    assert judge_second_shot(other, good[1], commissioning).outcome is Outcome.FAIL


def test_the_worst_reasons_come_first(good):
    figures = Figures(3.5, 11.0, 12.0, 0.0)
    reasons = judge(with_figures(good[0], figures), good[1]).reasons
    assert "95th percentile" in reasons[0]
    assert len(reasons) == 3


def test_many_patches_are_not_all_listed(good):
    judgement = judge(good[0], replace(good[1], clipped=np.ones(24, np.bool_)))
    assert "dark skin, light skin, blue sky and 21 more patches" in said(judgement)
