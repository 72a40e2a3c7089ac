"""The fit, on cameras whose truth is known and on real photographs of charts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.chart import detect_chart
from calibration.colour import delta_e_2000
from calibration.correction import figures
from calibration.correction.colour_model import IDENTITY, ColourModel, Tone, features
from calibration.correction.examination import metric_root, places
from calibration.correction.fit import Shape, examine, fit
from calibration.correction.least_squares import solve
from calibration.references import COLORCHECKER24
from tests.fakes.chart_patches import SCOPE, record

GOOD_SHOTS = (
    "colourscience_classic.png",
    "plantcv_calibrite-passport.png",
    "plantcv_classic.png",
    "plantcv_colorchecker-classic-mini.jpg",
    "plantcv_nano.jpeg",
)
OTHER_LAMP = (1.3, 1.0, 0.5)
"""Gains of an incandescent lamp where the profile was made in daylight."""


def shot(shared_data: Path, name: str) -> np.ndarray:
    with Image.open(shared_data / "colorchecker" / name) as image:
        return detect_chart(np.asarray(image.convert("RGB"))).patches.linear


def test_a_linear_camera_is_undone_exactly():
    result = fit(record(), COLORCHECKER24)
    assert result.shape == Shape()
    # One patch, cyan, is outside sRGB and was cut off by the camera; the others come out as they are.
    inside = np.delete(result.after.difference, 17)
    assert inside.max() < 0.5
    np.testing.assert_allclose(result.model.slope() @ SCOPE * 0.9, np.eye(3), atol=0.02)
    assert result.in_sample.mean < result.leave_one_out.mean < 1.0
    assert result.before.figures.mean > 5.0


def test_leave_one_out_leaves_the_patch_out():
    linear = record()
    linear[4] = linear[4][::-1]  # one patch is another colour altogether
    result = fit(linear, COLORCHECKER24, shapes=[Shape()])
    without = np.arange(24) != 4
    alone = replace_chart(without)
    expected = examine(fit(linear[without], alone, shapes=[Shape()]).model, linear, COLORCHECKER24)
    assert result.left_out.difference[4] == pytest.approx(expected.difference[4], abs=1e-3)
    assert result.left_out.difference[4] > result.after.difference[4]


def replace_chart(kept: np.ndarray) -> object:
    names = tuple(np.array(COLORCHECKER24.patch_names)[kept])
    return replace(
        COLORCHECKER24, patch_names=names, lab_d50=COLORCHECKER24.lab_d50[kept], rows=1, columns=len(names), neutral=()
    )


def test_tone_curve_of_a_camera_is_found():
    light = record(noise=0.003)
    curved = light**0.75 * 0.9
    plain, toned = (fit(curved, COLORCHECKER24, shapes=[shape]) for shape in (Shape(), Shape(tone=True)))
    chosen = fit(curved, COLORCHECKER24, one_shot=False)
    assert chosen.shape == Shape(tone=True)
    assert toned.leave_one_out.mean < 0.5 * plain.leave_one_out.mean
    tone = chosen.model.tone
    assert tone is not None
    assert 1.15 < tone.at_white < 1.55


def test_uneven_light_is_told_from_the_camera():
    place = places(COLORCHECKER24)
    slope = np.exp(place @ [0.15, -0.05])[:, None]
    result = fit(record(noise=0.002) * slope, COLORCHECKER24)
    assert result.shape.tilt
    np.testing.assert_allclose(result.tilt, (0.15, -0.05), atol=0.01)
    assert result.unevenness == pytest.approx(np.expm1(2 * 0.20), abs=0.05)
    # The model is that of even light: the same camera in even light agrees with it.
    assert examine(result.model, record(), COLORCHECKER24).figures.mean < 0.6
    uneven = record() * slope
    assert examine(result.model, uneven, COLORCHECKER24).figures.mean > 1.5
    assert examine(result.model, uneven, COLORCHECKER24, even_light=True).figures.mean < 0.6


def test_several_shots_have_no_direction_of_light():
    slope = np.exp(places(COLORCHECKER24) @ [0.15, 0.0])[:, None]
    result = fit(record() * slope, COLORCHECKER24, one_shot=False)
    assert result.tilt == (0.0, 0.0)
    assert not any(shape.tilt for shape, _ in result.tried)


def test_root_polynomial_only_where_leave_one_out_says_so():
    truth = np.vstack([np.eye(3) * 0.8, np.array([[0.5, -0.2, 0.0], [-0.3, 0.4, 0.1], [0.0, 0.1, -0.3]])])
    scene = record(np.eye(3))
    # A camera that a root polynomial undoes: found by a few steps of Newton's method.
    camera = scene.copy()
    for _ in range(60):
        camera = np.maximum(camera - 0.5 * (features(camera, "root_polynomial_2") @ truth - scene), 1e-6)
    shapes = [Shape(), Shape("root_polynomial_2")]
    bent = fit(camera, COLORCHECKER24, shapes=shapes)
    straight = fit(record(noise=0.01), COLORCHECKER24, shapes=shapes)
    assert bent.model.kind == "root_polynomial_2"
    assert straight.model.kind == "matrix"
    figures_of = {shape.kind: figures.mean for shape, figures in bent.tried}
    assert figures_of["root_polynomial_2"] < 0.99 * figures_of["matrix"]


@pytest.mark.parametrize("kind", ["matrix", "root_polynomial_2"])
def test_models_do_not_mind_the_exposure(kind):
    result = fit(record(noise=0.01), COLORCHECKER24, shapes=[Shape(kind)])
    light = np.random.default_rng(0).uniform(0, 1, (50, 3))
    np.testing.assert_allclose(result.model.apply(light * 0.25), result.model.apply(light) * 0.25, atol=1e-12)


@pytest.mark.parametrize("name", GOOD_SHOTS)
def test_good_photographs_pass_and_another_lamp_is_caught(shared_data, name):
    linear = shot(shared_data, name)
    result = fit(linear, COLORCHECKER24)
    plain = next(figures for shape, figures in result.tried if shape == Shape())
    assert result.leave_one_out.mean <= 3.0
    assert result.leave_one_out.mean <= plain.mean
    again = examine(result.model, linear, COLORCHECKER24, even_light=result.shape.tilt).figures.mean
    lamp = examine(result.model, linear * OTHER_LAMP, COLORCHECKER24, even_light=result.shape.tilt).figures.mean
    assert lamp > again + 4.0


def test_a_real_linear_photograph_under_another_lamp(shared_data):
    linear = shot(shared_data, "colourscience_classic.png")
    result = fit(linear, COLORCHECKER24)
    assert 12.0 < examine(result.model, linear * OTHER_LAMP, COLORCHECKER24).figures.mean < 16.0


def test_grey_ramp_only_chart_of_few_patches():
    grey = list(COLORCHECKER24.neutral)
    few = replace(
        COLORCHECKER24,
        patch_names=tuple(COLORCHECKER24.patch_names[k] for k in grey),
        lab_d50=COLORCHECKER24.lab_d50[grey],
        rows=1,
        columns=6,
        neutral=(0, 1, 2, 3, 4, 5),
    )
    result = fit(record(np.eye(3))[grey], few)  # one matrix, nothing else, and no exception
    assert [shape for shape, _ in result.tried] == [Shape()]


@pytest.mark.parametrize(
    ("linear", "told"),
    [
        (record()[:23], "24 patches, measured were 23"),
        (np.full((24, 3), np.nan), "no colours"),
        (np.zeros((24, 3)), "no colours"),
        (-record(), "no colours"),
    ],
)
def test_what_is_no_chart_is_refused(linear, told):
    with pytest.raises(ValueError, match=told):
        fit(linear, COLORCHECKER24)
    with pytest.raises(ValueError, match=told):
        examine(IDENTITY, linear, COLORCHECKER24)


def test_a_chart_of_too_few_patches_is_refused():
    kept = np.arange(24) < 4
    with pytest.raises(ValueError, match="at least 6 patches"):
        fit(record()[kept], replace_chart(kept))


def test_figures_are_what_they_say():
    lab = COLORCHECKER24.lab_d50.copy()
    lab[18:, 1] += 2.0
    lab[0, 0] += 7.0
    measured = figures.measure(lab, COLORCHECKER24)
    off = delta_e_2000(lab, COLORCHECKER24.lab_d50)
    assert measured.mean == pytest.approx(off.mean())
    assert measured.max == pytest.approx(off.max())
    assert measured.p95 == pytest.approx(np.percentile(off, 95))
    assert measured.grey_chroma == pytest.approx(2.0)
    assert figures.measure(COLORCHECKER24.lab_d50, COLORCHECKER24) == figures.Figures(0.0, 0.0, 0.0, 0.0)


def test_local_metric_is_ciede2000_near_each_colour():
    lab = COLORCHECKER24.lab_d50
    roots = metric_root(lab)
    off = np.random.default_rng(2).normal(0, 0.3, lab.shape)
    np.testing.assert_allclose(
        np.linalg.norm(np.einsum("nij,nj->ni", roots, off), axis=1), delta_e_2000(lab, lab + off), rtol=0.08, atol=0.01
    )


def test_solver_solves_each_problem_by_itself():
    targets = np.array([[1.0, 2.0], [-3.0, 0.5], [4.0, 4.0]])

    def rosenbrock(p):
        x, y = p[..., 0], p[..., 1]
        a, b = targets[:, 0], targets[:, 1]
        return np.stack([10.0 * ((y - b) - (x - a) ** 2), 1.0 - (x - a)], axis=-1)

    solved = solve(rosenbrock, np.zeros((3, 2)))
    np.testing.assert_allclose(solved, targets + 1.0, atol=1e-3)


@pytest.mark.parametrize("tone", [None, Tone(1.4, 0.2, 0.5, 0.02)])
def test_a_model_survives_json(tone):
    model = ColourModel("matrix", SCOPE, tone)
    again = ColourModel.from_plain(model.as_plain())
    np.testing.assert_array_equal(again.coefficients, model.coefficients)
    assert (again.kind, again.tone) == (model.kind, model.tone)
    assert not again.coefficients.flags.writeable


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"kind": "matrix", "coefficients": [[1, 0, 0]]},
        {"kind": "polynomial", "coefficients": np.eye(3).tolist()},
        {"kind": "matrix", "coefficients": [[float("nan")] * 3] * 3},
        {"kind": "matrix", "coefficients": np.eye(3).tolist(), "tone": {"at_white": 1.0}},
        {
            "kind": "matrix",
            "coefficients": np.eye(3).tolist(),
            "tone": {"at_white": -1.0, "at_floor": 1.0, "shoulder": 0.0, "floor": 0.02},
        },
    ],
)
def test_what_is_no_model_is_refused(plain):
    with pytest.raises(ValueError, match=r"model|curve"):
        ColourModel.from_plain(plain)


@pytest.mark.parametrize("at_floor", [0.05, 1.0, 3.0])
@pytest.mark.parametrize("at_white", [0.3, 1.0, 2.0])
def test_tone_curves_rise_everywhere(at_white, at_floor):
    tone = Tone(at_white, at_floor, 0.8, 0.02)
    levels = np.linspace(0.0, 1.5, 5000)
    curved = tone.curve(levels)
    assert curved[0] == 0.0
    assert (np.diff(curved) > 0.0).all()
    assert tone.curve(1.0) == pytest.approx(1.0)
    grey = curved * tone.lift(curved)
    assert (np.diff(grey) > 0.0).all()


def test_a_vendors_large_chart_is_left_out_in_groups():
    lab = np.random.default_rng(5).uniform([20, -40, -40], [90, 40, 40], (180, 3))
    names = tuple(str(number) for number in range(180))
    large = replace(COLORCHECKER24, patch_names=names, lab_d50=lab, rows=10, columns=18, neutral=())
    linear = record(noise=0.01, reference=large)
    linear[7] = 0.5
    result = fit(linear, large, shapes=[Shape()])
    assert result.left_out.difference.shape == (180,)
    assert result.left_out.difference[7] > result.after.difference[7] > 5.0
