"""Is this grid the chart, and can it be used? Decided by the residuals of the patches, never by a detector's own cost.

Detectors happily "find" a card with half of its patches under a leaf. Here each patch must have the colour it should
have, up to one 3x3 matrix and a tone curve; the limits lie between what photographs of charts leave (at most 10 for a
patch) and what anything else does (mean 14 and more).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.chart.failures import listed
from calibration.chart.lattice import Lattice
from calibration.chart.match import Placement
from calibration.references import ReferenceChart

MEAN_LIMIT: Final = 8.0
"""Mean CIEDE2000 after the fit up to which a grid is the chart."""
PATCH_LIMIT: Final = 16.0
"""CIEDE2000 of a single patch beyond which something else lies there."""
FITTING: Final = 10.0
"""CIEDE2000 up to which a patch speaks for the chart where others are covered."""
FITTING_SHARE: Final = 0.5
COVERED_LIMIT: Final = 12.5
"""Mean (each capped at 20) up to which a grid can still be a chart with patches covered."""
CLIPPED_SHARE: Final = 1 / 3
TILE_PATCHES: Final = 6
TILE_MARGIN: Final = 3.0
"""By how much the best place of a tile on the chart must beat the next."""


@dataclass(frozen=True)
class Verdict:
    """About one grid: a chart to use, a chart that cannot be used and why, or (neither) no chart."""

    lattice: Lattice
    placement: Placement | None = None
    sentence: str | None = None


def judge(
    lattice: Lattice, placements: list[Placement], reference: ReferenceChart, *, tile: bool, fewest: int = TILE_PATCHES
) -> list[Verdict]:
    """Judge a grid; more than one verdict with a placement where several charts lie on it.

    Args:
        lattice: the grid.
        placements: the likeliest ways of laying the chart on it, the best first.
        reference: the chart.
        tile: part of the chart is enough.
        fewest: patches that a tile must show.
    """
    if not placements:
        return [Verdict(lattice)]
    first = _judge_one(lattice, placements, reference, tile=tile, fewest=fewest)
    if first.placement is None:
        return [first]
    verdicts = [first]
    for other in placements[1:]:
        apart = all(_overlap(other, verdict.placement) == 0 for verdict in verdicts if verdict.placement)
        if apart and _fits(other) and not tile:
            verdicts.append(Verdict(lattice, other))
    return verdicts


def _judge_one(
    lattice: Lattice, placements: list[Placement], reference: ReferenceChart, *, tile: bool, fewest: int
) -> Verdict:
    best = placements[0]
    names = np.array(reference.patch_names)
    values = np.where(best.judged, best.difference, 0.0)
    wrong = best.judged & (values > PATCH_LIMIT)
    speaks = int((best.judged & (values <= FITTING)).sum())
    whole = best.score <= MEAN_LIMIT and not wrong.any()
    partly = best.score <= COVERED_LIMIT and speaks >= max(FITTING_SHARE * int(best.judged.sum()), fewest)
    if not (whole or partly):
        return Verdict(lattice)
    sentence = None
    if best.mirrored:
        sentence = (
            "The chart is mirrored: switch the mirror image of the camera off (or, with a target file of your own, "
            "exchange its rows and columns)."
        )
    elif tile and _ambiguous(placements):
        sentence = "It cannot be told which part of the chart this is: show at least 2 x 3 whole patches."
    elif tile and int(best.seen.sum()) < fewest:
        sentence = f"Only {int(best.seen.sum())} whole patches are in view: show at least 2 x 3."
    elif int((best.clipped & best.seen).sum()) > CLIPPED_SHARE * int(best.seen.sum()):
        sentence = "The chart is over-exposed: lower the exposure until no patch is burnt out."
    elif not tile and not best.seen.all():
        sentence = (
            f"The chart is cut off, {listed(names[~best.seen].tolist())} outside the picture: show the whole chart."
        )
    elif wrong.any() or not whole:
        covered = names[best.judged & (values > (PATCH_LIMIT if wrong.any() else FITTING))].tolist()
        sentence = (
            f"Not the chart's colour at {listed(covered)}: uncover the patches, wipe off glare and dirt, and retake."
        )
    return Verdict(lattice, None, sentence) if sentence else Verdict(lattice, best)


def _fits(placement: Placement) -> bool:
    values = placement.difference[placement.judged]
    return placement.score <= MEAN_LIMIT and bool((values <= PATCH_LIMIT).all()) and bool(placement.seen.all())


def _ambiguous(placements: list[Placement]) -> bool:
    """Another place on the chart explains the tile about as well."""
    best = placements[0]
    return any(
        other.score - best.score < TILE_MARGIN
        for other in placements[1:]
        if not (other.cells.shape == best.cells.shape and np.allclose(other.cells, best.cells))
    )


def _overlap(one: Placement, other: Placement) -> int:
    """How many grid nodes two placements share."""
    first = {(int(column), int(row)) for column, row in one.cells}
    return sum((int(column), int(row)) in first for column, row in other.cells)
