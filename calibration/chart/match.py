"""Which patch of the chart lies on which node of a grid: judged by colours alone, whatever the lamp and the camera.

Every way of laying the chart on the grid (turned, mirrored, shifted) is scored by how well one 3x3 matrix in linear
light takes the colours seen to the chart's known colours. On photographs the right one leaves a mean CIEDE2000 of 1 to
6 and any other 14 and more, so the margin is wide. Patches that do not fit are held off by a robust weight, so that a
covered patch stands out instead of bending the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.chart.blobs import FloatArray, Picture
from calibration.chart.lattice import IntArray, Lattice
from calibration.colour import delta_e_2000, lab_to_linear, linear_to_lab, srgb_to_linear
from calibration.references import ReferenceChart

Flags = NDArray[np.bool_]

CAPPED: Final = 20.0
"""CIEDE2000 beyond which a patch counts no worse: it is simply not that patch."""
SOFT: Final = 4.0
"""CIEDE2000 at which a patch's weight in the fit begins to fall."""
EXPONENTS: Final = (0.7, 0.8, 0.9, 1.0, 1.15, 1.35)
"""Tone curves that cameras put on top of sRGB; tried to tell a styled photograph from a wrong patch, never applied."""
CLIPPED: Final = 252.0 / 255.0
FEWEST_WITH_ANCHORS: Final = 2
FEWEST_PATCHES: Final = 5
"""A 3x3 matrix fits any three colours; below five there is nothing left to judge by."""
MOST_NODES: Final = 150
"""A grid of more patches than several charts have is a tiled floor or a keyboard."""
SAMPLED: Final = 0.7
"""Of a patch's edge-free side: the part whose colour is taken."""
RIDGE: Final = 0.02
"""Pull of the matrix towards plain gains, so that a few patches cannot be fitted by an absurd camera."""


@dataclass(frozen=True)
class Sampler:
    """Colours of a small picture, averaged over the inner part of a patch."""

    linear: FloatArray
    """float64 [H,W,3]."""
    encoded: FloatArray
    """float64 [H,W,3], 0..1."""
    field: Picture | None
    """uint8 [H,W]: 0 outside the dermoscope's field of view; None where the whole picture is in view."""

    def at(self, points: FloatArray) -> tuple[FloatArray, Flags]:
        """Linear colours [...,3] at points [...,2], and which of them are clipped; black outside the picture."""
        height, width = self.linear.shape[:2]
        spot = np.rint(np.nan_to_num(points, nan=-1.0)).clip(-1, [width, height]).astype(np.int64)
        inside = np.asarray(((spot >= 0) & (spot < [width, height])).all(axis=-1))
        x, y = np.where(inside[..., None], spot, 0).transpose(-1, *range(spot.ndim - 1))
        colours = np.where(inside[..., None], self.linear[y, x], 0.0)
        return colours, np.asarray(inside & (self.encoded[y, x] >= CLIPPED).any(axis=-1))


def make_sampler(rgb: Picture, lattice: Lattice, field: Picture | None) -> Sampler:
    """Average a small picture (uint8 [H,W,3]) over squares of half a patch; ``field`` as in :class:`Sampler`."""
    middle = lattice.nodes.mean(axis=0)
    step = np.diff(lattice.project(middle + np.array([[-0.5, 0.0], [0.5, 0.0]])), axis=0)[0]
    width = max(3, int(0.5 * lattice.side * float(np.hypot(*step))) | 1)
    encoded = rgb.astype(np.float64) / 255.0
    return Sampler(
        linear=np.asarray(cv2.boxFilter(srgb_to_linear(encoded), -1, (width, width)), dtype=np.float64),
        encoded=np.asarray(cv2.boxFilter(encoded, -1, (width, width)), dtype=np.float64),
        field=field,
    )


@dataclass(frozen=True)
class Anchors:
    """Patches already known under the same light, which hold the fit of a tile with few patches."""

    linear: FloatArray
    """float64 [K,3], as seen."""
    lab: FloatArray
    """float64 [K,3], D50."""


@dataclass(frozen=True)
class Placement:
    """One way of laying the chart on a grid, with how well the colours agree."""

    cells: FloatArray
    """float64 [N,2]: grid coordinates (column, row) of each patch, in the chart's order."""
    seen: Flags
    """bool [N]: the patch's inner part lies in the picture (and in the field of view)."""
    clipped: Flags
    """bool [N]: over-exposed where it was sampled."""
    difference: FloatArray
    """float64 [N]: CIEDE2000 to the reference after the best fit; NaN where not seen."""
    mirrored: bool

    @property
    def judged(self) -> Flags:
        """Patches whose colour can speak: seen and not clipped."""
        return self.seen & ~self.clipped

    @property
    def score(self) -> float:
        """Mean CIEDE2000 of the patches that can be judged, each capped."""
        values = self.difference[self.judged]
        return float(np.minimum(values, CAPPED).mean()) if len(values) else CAPPED


def best_placements(
    lattice: Lattice, reference: ReferenceChart, sampler: Sampler, *, anchors: Anchors | None = None, most: int = 6
) -> list[Placement]:
    """The likeliest ways of laying the chart on a grid, the best first; empty where nothing could be judged."""
    fewest = FEWEST_PATCHES if anchors is None else FEWEST_WITH_ANCHORS
    if len(lattice.nodes) > MOST_NODES:
        return []
    ways = list(_ways(lattice.nodes, reference))
    if not ways:
        return []
    cells = np.array([way[0] for way in ways], dtype=np.float64)
    seen = np.array([_seen(lattice, way, sampler) for way in cells])
    enough = seen.sum(axis=1) >= fewest
    if not enough.any():
        return []
    ways = [way for way, keep in zip(ways, enough, strict=True) if keep]
    cells, seen = cells[enough], seen[enough]
    colours, clipped = sampler.at(lattice.project(cells))
    usable = seen & ~clipped
    quick = np.minimum(fit_difference(colours, usable, reference.lab_d50, anchors), CAPPED)
    score = np.where(usable, quick, 0).sum(axis=1) / np.maximum(usable.sum(axis=1), 1)
    score[usable.sum(axis=1) < fewest] = CAPPED
    placements = []
    for index in np.argsort(score)[:most]:
        mirrored = ways[index][1]
        difference = tone_difference(colours[index], usable[index], reference.lab_d50, anchors)
        difference[~seen[index]] = np.nan
        placements.append(Placement(cells[index], seen[index], clipped[index], difference, mirrored))
    return sorted(placements, key=lambda placement: placement.score)


def tone_difference(colours: FloatArray, usable: Flags, lab: FloatArray, anchors: Anchors | None = None) -> FloatArray:
    """CIEDE2000 [N] of one placement under the tone curve that suits it best."""
    if anchors is not None:  # known patches tell the curve already: they were fitted without one
        return np.asarray(fit_difference(colours[None], usable[None], lab, anchors, rounds=10)[0])
    tries = np.array([np.maximum(colours, 0.0) ** exponent for exponent in EXPONENTS])
    difference = fit_difference(tries, np.broadcast_to(usable, (len(tries), len(usable))), lab, rounds=10)
    capped = np.where(usable, np.minimum(difference, CAPPED), 0.0).sum(axis=1)
    return np.asarray(difference[int(np.argmin(capped))], dtype=np.float64)


def fit_difference(
    colours: FloatArray, usable: Flags, lab: FloatArray, anchors: Anchors | None = None, *, rounds: int = 4
) -> FloatArray:
    """CIEDE2000 [P,N] of each of P placements after a robust 3x3 fit in linear light.

    Args:
        colours: float64 [P,N,3] linear, as seen.
        usable: bool [P,N]: which may take part in the fit.
        lab: float64 [N,3], D50: what they should be.
        anchors: further patches, known.
        rounds: of re-weighting.
    """
    count, patches = usable.shape
    if anchors is not None:
        colours = np.concatenate([colours, np.broadcast_to(anchors.linear, (count, *anchors.linear.shape))], axis=1)
        usable = np.concatenate([usable, np.ones((count, len(anchors.lab)), dtype=bool)], axis=1)
        lab = np.concatenate([lab, anchors.lab])
    target = lab_to_linear(lab)
    # Equal steps in light are not equal steps to the eye: dark patches weigh more (slope of the cube root).
    tone = (target.mean(axis=1) + 0.03) ** (-2 / 3)
    weight = usable.astype(np.float64)
    level = (colours * usable[..., None]).sum(axis=(1, 2)) / np.maximum(usable.sum(axis=1), 1)
    scaled = colours / np.maximum(level, 1e-6)[:, None, None]
    wanted = np.broadcast_to(target, scaled.shape)
    difference = np.zeros(usable.shape)
    for _ in range(rounds):
        strength = (weight * tone) ** 2
        strength /= np.maximum(strength.sum(axis=1, keepdims=True), 1e-12)
        normal = np.einsum("pn,pni,pnj->pij", strength, scaled, scaled)
        moment = np.einsum("pn,pni,pnj->pij", strength, scaled, wanted)
        gains = np.einsum("pii->pi", moment) / np.maximum(np.einsum("pii->pi", normal), 1e-12)
        pull = RIDGE * np.einsum("pii->p", normal)[:, None, None] / np.maximum(usable.sum(axis=1), 1)[:, None, None]
        prior = np.einsum("pi,ij->pij", gains, np.eye(3))
        matrix = np.linalg.solve(normal + pull * np.eye(3) + 1e-12 * np.eye(3), moment + pull * prior)
        difference = delta_e_2000(linear_to_lab(scaled @ matrix), lab)
        weight = usable / np.sqrt(1 + (difference / SOFT) ** 2)
    return np.asarray(difference[:, :patches], dtype=np.float64)


def _ways(nodes: IntArray, reference: ReferenceChart) -> list[tuple[IntArray, bool]]:
    """(cells, mirrored): every placement that covers most of the grid or is mostly covered by it."""
    rows, columns = reference.rows, reference.columns
    chart = np.array([[column, row] for row in range(rows) for column in range(columns)], dtype=np.int64)
    extent = nodes.max(axis=0)
    needed = 0.6 * min(len(nodes), len(chart))
    quarter = np.array([[0, -1], [1, 0]])
    ways = []
    for mirrored in (False, True):
        flip = np.diag([-1, 1]) if mirrored else np.eye(2, dtype=np.int64)
        for turns in range(4):
            cells = chart @ (np.linalg.matrix_power(quarter, turns) @ flip).T
            cells -= cells.min(axis=0)
            spare = extent - cells.max(axis=0)
            for x in range(min(0, int(spare[0])), max(0, int(spare[0])) + 1):
                for y in range(min(0, int(spare[1])), max(0, int(spare[1])) + 1):
                    low = np.array([x, y])
                    high = low + cells.max(axis=0)
                    if ((nodes >= low) & (nodes <= high)).all(axis=1).sum() >= needed:
                        ways.append((cells + low, mirrored))
    return ways


def _seen(lattice: Lattice, cells: FloatArray, sampler: Sampler) -> Flags:
    """Bool [N]: the four corners of the patch's edge-free part lie in the picture and in the field of view."""
    half = SAMPLED / 2 * lattice.side
    offsets = half * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    corners = np.nan_to_num(lattice.project(cells[:, None] + offsets), nan=-1.0)
    height, width = sampler.linear.shape[:2]
    spot = np.rint(corners.clip(-1e6, 1e6)).astype(np.int64)
    inside = ((spot >= 0) & (spot < [width, height])).all(axis=-1)
    if sampler.field is not None:
        x, y = np.where(inside[..., None], spot, 0).transpose(2, 0, 1)
        inside &= sampler.field[y, x] > 0
    return np.asarray(inside.all(axis=1), dtype=np.bool_)
