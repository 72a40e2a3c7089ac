"""A chart's patches seen through a colour model, and how far they are then from their true colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from calibration.colour import Floats, delta_e_2000, linear_to_lab
from calibration.correction.colour_model import ColourModel
from calibration.correction.figures import Figures, differences, measure
from calibration.correction.least_squares import solve
from calibration.references import ReferenceChart

FEWEST_PATCHES: Final = 6
TILT_PRIOR: Final = 0.5
"""CIEDE2000 that a slope of the light of 1 (in its log) costs: what the patches say nothing of stays even."""


@dataclass(frozen=True, eq=False)
class Examination:
    """Colours of a shot seen through a model."""

    lab: Floats
    """float64 [N,3], Lab D50."""
    difference: Floats
    """float64 [N], CIEDE2000."""
    figures: Figures


def examine(
    model: ColourModel, patches_linear: ArrayLike, reference: ReferenceChart, *, even_light: bool = False
) -> Examination:
    """See a shot's patches through a model: what ``verify`` does with a second shot, and `IDENTITY` shows "before".

    Args:
        model: the model of the profile; `IDENTITY` changes nothing.
        patches_linear: as for `fit`.
        reference: the chart.
        even_light: estimate how the light falls off across the chart and take that out, as a fit of a shape with
            ``tilt`` did; for a chart that is in one picture. It hides no change of colour.

    Raises:
        ValueError: as `fit`.
    """
    corrected = model.apply(checked_patches(patches_linear, reference))
    return examination_of(linear_to_lab(_evened(corrected, reference) if even_light else corrected), reference)


def _evened(corrected: Floats, reference: ReferenceChart) -> Floats:
    """Linear sRGB ``[N,3]`` without the slope of the light across the chart that explains its differences best."""
    place, root = places(reference), metric_root(reference.lab_d50)

    def residuals(tilt: Floats) -> Floats:
        lab = linear_to_lab(corrected * np.exp(-np.einsum("nk,...k->...n", place, tilt))[..., None])
        weighted = np.einsum("nij,...nj->...ni", root, lab - reference.lab_d50)
        return np.concatenate([weighted.reshape(*tilt.shape[:-1], -1), TILT_PRIOR * tilt], axis=-1)

    (tilt,) = solve(residuals, np.zeros((1, 2)))
    evened: Floats = corrected * np.exp(-place @ tilt)[:, None]
    return evened


def examination_of(lab: Floats, reference: ReferenceChart) -> Examination:
    """Judge colours that are corrected already: Lab D50 ``[N,3]``."""
    return Examination(lab, differences(lab, reference), measure(lab, reference))


def checked_patches(patches_linear: ArrayLike, reference: ReferenceChart) -> Floats:
    """The patches as float64 ``[N,3]``. Raises ValueError where they are not colours of this whole chart."""
    linear = np.array(patches_linear, dtype=np.float64)
    if linear.shape != reference.lab_d50.shape:
        raise ValueError(
            f"{reference.name} has {len(reference.lab_d50)} patches, measured were {len(linear)}: show the whole chart"
        )
    if len(linear) < FEWEST_PATCHES:
        raise ValueError(f"a chart needs at least {FEWEST_PATCHES} patches, {reference.name} has {len(linear)}")
    if not np.isfinite(linear).all() or linear.min() < 0.0 or not linear.max(axis=0).min() > 0.0:
        raise ValueError("the measured patches are no colours: shoot the chart again")
    return linear


def places(reference: ReferenceChart) -> Floats:
    """Where each patch lies on the chart: ``[N, 2]``, from -1 (left, top) to 1 (right, bottom)."""
    index = np.arange(len(reference.lab_d50))
    across = np.linspace(-1.0, 1.0, reference.columns) if reference.columns > 1 else np.zeros(1)
    down = np.linspace(-1.0, 1.0, reference.rows) if reference.rows > 1 else np.zeros(1)
    return np.stack([across[index % reference.columns], down[index // reference.columns]], axis=1)


def metric_root(lab: ArrayLike, step: float = 0.1) -> Floats:
    """Roots ``R [N,3,3]`` of CIEDE2000's local metric at each colour: ``|R d|`` is the difference of ``lab + d``."""
    at = np.asarray(lab, dtype=np.float64)
    eye = step * np.eye(3)
    single = np.stack([delta_e_2000(at, at + eye[k]) ** 2 for k in range(3)], axis=-1)
    metric = np.empty((*at.shape[:-1], 3, 3))
    for i in range(3):
        for j in range(3):
            both = delta_e_2000(at, at + eye[i] + eye[j]) ** 2
            metric[..., i, j] = single[..., i] if i == j else (both - single[..., i] - single[..., j]) / 2.0
    root: Floats = np.swapaxes(np.linalg.cholesky(metric / step**2), -1, -2)
    return root
