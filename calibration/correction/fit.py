"""Fits a colour model to the patches of a chart, and tells by leaving each patch out once how good it is elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.colour import Floats, lab_to_linear, linear_to_lab
from calibration.correction.colour_model import (
    IDENTITY,
    LUMINANCE,
    STEEPEST_SHOULDER,
    TERMS,
    ColourModel,
    Kind,
    Tone,
    features,
)
from calibration.correction.examination import (
    Examination,
    checked_patches,
    examination_of,
    examine,
    metric_root,
    places,
)
from calibration.correction.figures import Figures, measure
from calibration.correction.least_squares import solve
from calibration.references import ReferenceChart

__all__ = ["IDENTITY", "ColourModel", "Examination", "Fit", "Shape", "Tone", "examine", "fit"]

PATCHES_PER_PARAMETER: Final = 3.0
"""Values (three per patch) to each parameter that a shape must leave to be tried at all."""
FEWEST_GREYS: Final = 4
"""Grey patches from which a tone curve can be measured."""
MARGIN: Final = 0.01
"""Share by which leave-one-out must fall for a shape with more parameters to be taken; it counts their cost already."""
_PRIOR: Final = 0.5
"""CIEDE2000 that a tone parameter or a tilt of 1 costs: what the patches say nothing of stays as it is."""
MOST_LEFT_OUT_SINGLY: Final = 150
LEFT_OUT_GROUPS: Final = 50
"""Of a chart with more patches, every 50th is left out together: a thousand fits would take minutes."""
_DARKEST, _LIGHTEST = 0.002, 0.1
_BLACK: Final = 0.02


@dataclass(frozen=True)
class Shape:
    """Which parameters a model has."""

    kind: Kind = "matrix"
    tone: bool = False
    tilt: bool = False
    """The light falls off evenly from one side of the chart to the other: of the shot, not of the camera."""

    @property
    def extra(self) -> int:
        """Parameters beside the coefficients."""
        return 3 * self.tone + 2 * self.tilt

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.extra + 3 * TERMS[self.kind]

    def __str__(self) -> str:
        name = "3x3 matrix" if self.kind == "matrix" else "root polynomial of degree 2"
        return name + " with tone curve" * self.tone + ", uneven light on the chart" * self.tilt


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model and how well it does."""

    model: ColourModel
    shape: Shape
    reference: ReferenceChart
    before: Examination
    """The shot as it is, read as sRGB."""
    after: Examination
    """The same patches that the model was made from, seen through it, in even light."""
    left_out: Examination
    """Each patch seen through the model that was made without it."""
    tilt: tuple[float, float]
    """Log of the light at the right edge and at the lower edge of the chart, over its middle; (0, 0) if not fitted."""
    tried: tuple[tuple[Shape, Figures], ...]
    """Every shape and its leave-one-out figures."""

    @property
    def in_sample(self) -> Figures:
        """Figures of ``after``."""
        return self.after.figures

    @property
    def leave_one_out(self) -> Figures:
        """Figures of ``left_out``: the honest ones."""
        return self.left_out.figures

    @property
    def unevenness(self) -> float:
        """How much brighter the light is on the brightest corner of the chart than on the darkest: 0.1 is 10 %."""
        return float(np.expm1(2.0 * (abs(self.tilt[0]) + abs(self.tilt[1]))))


def fit(
    patches_linear: ArrayLike,
    reference: ReferenceChart,
    *,
    shapes: Sequence[Shape] | None = None,
    one_shot: bool = True,
) -> Fit:
    """Fit a model to one chart.

    Each shape is fitted by least squares of Lab differences in the local metric of CIEDE2000. The plain matrix is
    taken unless a shape with more parameters has a leave-one-out mean lower by 1 %.

    Args:
        patches_linear: ``[N,3]`` linear light (sRGB curve), 0..1, RGB, flat-field gain applied, in the chart's order.
        reference: the chart.
        shapes: which to try, instead of all that the number of patches and greys allows.
        one_shot: all patches are from one picture of the chart, so that the light on it can have a direction.

    Raises:
        ValueError: too few patches, or not as many as the chart has, or values that are no colours.
    """
    linear = checked_patches(patches_linear, reference)
    problem = _Problem(linear, reference)
    tried: list[_Solution] = [problem.solve(shape) for shape in shapes or _shapes(reference, one_shot)]
    if not tried:
        raise ValueError("no shape of model was given to be tried")
    best = tried[0]
    for solution in tried[1:]:
        if solution.left_out.mean < (1.0 - MARGIN) * best.left_out.mean:
            best = solution
    return Fit(
        model=best.model,
        shape=best.shape,
        reference=reference,
        before=examine(IDENTITY, linear, reference),
        after=examination_of(best.lab, reference),
        left_out=examination_of(best.left_out_lab, reference),
        tilt=best.tilt,
        tried=tuple((solution.shape, solution.left_out) for solution in tried),
    )


def _shapes(reference: ReferenceChart, one_shot: bool) -> tuple[Shape, ...]:
    """What the chart can tell apart, the simplest first."""
    tilts = (False, True) if one_shot else (False,)
    tones = (False, True) if len(reference.neutral) >= FEWEST_GREYS else (False,)
    matrices = [Shape(tone=tone, tilt=tilt) for tone in tones for tilt in tilts]
    polynomials = [Shape("root_polynomial_2", tilt=tilt) for tilt in tilts]
    values = 3 * len(reference.lab_d50)
    able = [shape for shape in (*matrices, *polynomials) if shape.parameters * PATCHES_PER_PARAMETER <= values]
    return tuple(able) or (Shape(),)


@dataclass(frozen=True, eq=False)
class _Solution:
    shape: Shape
    model: ColourModel
    lab: Floats
    left_out_lab: Floats
    left_out: Figures
    tilt: tuple[float, float]


class _Problem:
    """One chart's data; row 0 of every batch has all patches, row i + 1 all but those of group i."""

    def __init__(self, linear: Floats, reference: ReferenceChart) -> None:
        self.linear, self.reference = linear, reference
        count = len(linear)
        self.target = lab_to_linear(reference.lab_d50)
        self.root = metric_root(reference.lab_d50)
        groups = count if count <= MOST_LEFT_OUT_SINGLY else LEFT_OUT_GROUPS
        self.group = np.arange(count) % groups
        self.used: NDArray[np.bool_] = np.arange(-1, groups)[:, None] != self.group
        self.floor = float(np.clip(0.8 * linear.min(), _DARKEST, _LIGHTEST))
        self.place = places(reference)

    def solve(self, shape: Shape) -> _Solution:
        """Fit one shape to all patches and to all but each."""
        start = np.concatenate([np.zeros((len(self.used), shape.extra)), self._start(shape)], axis=1)

        def residuals(parameters: Floats) -> Floats:
            off = self.lab(parameters, shape) - self.reference.lab_d50
            weighted = np.einsum("nij,...nj->...ni", self.root, off) * self.used[:, :, None]
            flat = weighted.reshape(*weighted.shape[:-2], -1)
            return np.concatenate([flat, _PRIOR * parameters[..., : shape.extra]], axis=-1)

        solved = solve(residuals, start)
        lab = self.lab(solved, shape)
        left_out = lab[self.group + 1, np.arange(len(self.linear))]
        whole = solved[0]
        model = ColourModel(shape.kind, whole[shape.extra :].reshape(-1, 3), self._tone(whole) if shape.tone else None)
        tilt = whole[3 * shape.tone : shape.extra] if shape.tilt else np.zeros(2)
        figures = measure(left_out, self.reference)
        return _Solution(shape, model, lab[0], left_out, figures, (float(tilt[0]), float(tilt[1])))

    def lab(self, parameters: Floats, shape: Shape) -> Floats:
        """Lab ``[..., N, 3]`` of all patches for parameters ``[..., P]``: tone, tilt, coefficients."""
        value: Floats = self.linear
        gain: Floats | float = 1.0
        if shape.tone:
            value, gain = self._toned(parameters)
        if shape.tilt:
            tilt = parameters[..., 3 * shape.tone : shape.extra]
            gain = gain * np.exp(-np.einsum("nk,...k->...n", self.place, tilt))[..., None]
        coefficients = parameters[..., shape.extra :].reshape(*parameters.shape[:-1], -1, 3)
        return linear_to_lab(features(value, shape.kind) @ coefficients * gain)

    def _tone(self, parameters: Floats) -> Tone:
        at_white, at_floor = np.exp(parameters[:2])
        shoulder = STEEPEST_SHOULDER * np.tanh(parameters[2] / STEEPEST_SHOULDER)
        return Tone(float(at_white), float(at_floor), float(shoulder), self.floor)

    def _toned(self, parameters: Floats) -> tuple[Floats, Floats]:
        """`Tone` for a batch: patches ``[..., N, 3]`` and their lift ``[..., N, 1]``."""
        at_white, at_floor = (np.exp(parameters[..., k, None, None]) for k in range(2))
        bottom = np.log(self.floor)
        log = np.log(np.maximum(self.linear, self.floor))
        value = np.exp(log * (at_white + (at_floor - at_white) / (2.0 * bottom) * log))
        shoulder = STEEPEST_SHOULDER * np.tanh(parameters[..., 2, None] / STEEPEST_SHOULDER)
        lift = 1.0 / (1.0 - shoulder * np.clip(value @ LUMINANCE, 0.0, 1.0))
        return value, lift[..., None]

    def _start(self, shape: Shape) -> Floats:
        """Coefficients ``[groups + 1, 3 K]`` by linear least squares, weighted as lightness weights dark and bright."""
        weight = np.maximum(self.target @ LUMINANCE, _BLACK) ** (-2.0 / 3.0)
        terms = features(self.linear, shape.kind) * weight[:, None]
        target = self.target * weight[:, None]
        solved = [np.linalg.lstsq(terms[used], target[used], rcond=None)[0].ravel() for used in self.used]
        return np.array(solved)
