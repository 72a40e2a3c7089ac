"""Where a placed chart lies in the picture: the sampled area of each patch, and the chart's outer corners."""

from __future__ import annotations

import numpy as np

from calibration.chart.blobs import FloatArray
from calibration.chart.lattice import Lattice
from calibration.chart.match import SAMPLED, Placement
from calibration.references import ReferenceChart


def patch_boxes(lattice: Lattice, placement: Placement, reference: ReferenceChart) -> FloatArray:
    """The area of each patch in view whose colour is taken: float64 [K,4,2] pixels, clockwise from its top left."""
    cells = placement.cells[placement.seen]
    corners = lattice.project(cells[:, None] + _frame(placement, reference, SAMPLED / 2 * lattice.side))
    return corners + _strays(lattice, cells)[:, None]


def chart_corners(lattice: Lattice, placement: Placement, reference: ReferenceChart) -> FloatArray:
    """Outer corners of the patch area, float64 [4,2] pixels: the chart's top left, top right, bottom right, left."""
    # The edge-free part ends a pixel or two inside of the patch; a patch never reaches beyond its pitch.
    reach = 0.5 * min(1.0, 1.06 * lattice.side + 0.04)
    last = reference.rows * reference.columns - 1
    ends = [0, reference.columns - 1, last, last - reference.columns + 1]
    return lattice.project(placement.cells[ends] + _frame(placement, reference, reach))


def turned(corners: FloatArray) -> float:
    """Degrees clockwise, -180 to 180, from the picture's horizontal to the chart's rows."""
    across = corners[1] - corners[0]
    return round(float(np.degrees(np.arctan2(across[1], across[0]))), 1) + 0.0


def same_chart(one: FloatArray, other: FloatArray) -> bool:
    """Two outlines (float64 [4,2]) are of one chart: the middle of the one lies well within the other."""
    middle = other.mean(axis=0)
    reach = float(np.hypot(*(other - middle).T).max())
    return float(np.hypot(*(one.mean(axis=0) - middle))) < 0.5 * reach


def _frame(placement: Placement, reference: ReferenceChart, half: float) -> FloatArray:
    """Offsets of a patch's corners from its centre, in grid coordinates, clockwise from the chart's top left."""
    across = placement.cells[1] - placement.cells[0]
    down = placement.cells[reference.columns] - placement.cells[0]
    return np.asarray(half * np.array([-across - down, across - down, across + down, down - across]), dtype=np.float64)


def _strays(lattice: Lattice, cells: FloatArray) -> FloatArray:
    """How far each patch was found from where the grid has it (a lens bends the grid): float64 [K,2] pixels."""
    off = lattice.points - lattice.project(lattice.nodes)
    where = {(int(column), int(row)): off[index] for index, (column, row) in enumerate(lattice.nodes)}
    return np.array([where.get((round(column), round(row)), np.zeros(2)) for column, row in cells]).reshape(-1, 2)
