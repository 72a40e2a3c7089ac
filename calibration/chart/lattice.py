"""Find regular grids of patch-like areas in a picture: what a colour chart is before its colours are looked at.

Grids are grown neighbour by neighbour, so that perspective and a bending lens may change the step on the way. Nothing
here knows which chart it is; the work is bounded by the picture's size and by the number of areas.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.chart.blobs import MOST_BLOBS, Blobs, FloatArray

IntArray = NDArray[np.int64]

FEWEST_NODES: Final = 4
SETTLED_NODES: Final = 9
CUT: Final = (0.85, 1.18)
"""Side of a patch relative to the usual between which it was seen whole; others say less about where they lie."""
STRAY: Final = 0.22
"""How far, in pitches, a patch may lie from where the grid expects it."""


@dataclass(frozen=True)
class Lattice:
    """A grid seen in a picture."""

    nodes: IntArray
    """int64 [K,2]: column and row of each patch found, from 0; columns and rows run clockwise as seen."""
    points: FloatArray
    """float64 [K,2]: where it was found (x, y in pixels)."""
    homography: FloatArray
    """float64 [3,3]: grid coordinates (column, row) to pixels."""
    side: float
    """Of the edge-free part of a patch, in pitches."""

    def project(self, nodes: FloatArray | IntArray) -> FloatArray:
        """Grid coordinates [...,2] to pixels [...,2]."""
        return project(self.homography, np.asarray(nodes, dtype=np.float64))


def project(homography: FloatArray, points: FloatArray) -> FloatArray:
    """Apply a 3x3 homography to points [...,2]."""
    lifted = points @ homography[:, :2].T + homography[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(lifted[..., :2] / lifted[..., 2:], dtype=np.float64)


def find_lattices(blobs: Blobs, *, most: int = 4) -> list[Lattice]:
    """All grids of at least 2 x 2 patches, the largest first.

    Args:
        blobs: patch-like areas of a picture.
        most: how many grids to look for.
    """
    free = np.ones(len(blobs.sides), dtype=bool)
    found: list[Lattice] = []
    while len(found) < most and int(free.sum()) >= FEWEST_NODES:
        grown = _largest(blobs, free)
        if grown is None:
            break
        lattice, used = grown
        found.append(lattice)
        free[used] = False
    return sorted(found, key=lambda lattice: -len(lattice.nodes))


def _largest(blobs: Blobs, free: NDArray[np.bool_]) -> tuple[Lattice, IntArray] | None:
    """The grid with the most patches that grows from any of the free areas, and the areas it took."""
    best: tuple[Lattice, IntArray] | None = None
    tried = np.zeros(len(free), dtype=bool)
    for seed in np.flatnonzero(free):
        if tried[seed]:
            continue
        for u, v in _bases(blobs, free, int(seed)):
            places = _grow(blobs, free, int(seed), u, v)
            if len(places) < FEWEST_NODES:
                continue
            lattice = _fit(blobs, free, places)
            if lattice is None:
                continue
            if len(lattice[1]) >= SETTLED_NODES:
                tried[lattice[1]] = True  # its other patches would grow the same grid
            if best is None or _rank(lattice[0]) > _rank(best[0]):
                best = lattice
    return best


def _rank(lattice: Lattice) -> tuple[int, float]:
    """More patches are better; of as many, those that lie closer, since diagonals make a grid, too."""
    return len(lattice.nodes), lattice.side


def _bases(blobs: Blobs, free: NDArray[np.bool_], seed: int) -> list[tuple[FloatArray, FloatArray]]:
    """Pairs of steps to neighbours of about the same size that could span a grid."""
    away = blobs.centres - blobs.centres[seed]
    distance = np.hypot(away[:, 0], away[:, 1])
    alike = free & (blobs.sides < 1.8 * blobs.sides[seed]) & (blobs.sides > blobs.sides[seed] / 1.8)
    near = np.flatnonzero(alike & (distance > 1.02 * blobs.sides[seed]) & (distance < 2.6 * blobs.sides[seed]))
    near = near[np.argsort(distance[near])][:6]
    pairs = []
    for a in near:
        for b in near:
            cross = away[a, 0] * away[b, 1] - away[a, 1] * away[b, 0]
            if cross > 0.75 * distance[a] * distance[b] and 0.6 < distance[a] / distance[b] < 1.67:
                pairs.append((float(distance[a] + distance[b]), away[a], away[b]))
    pairs.sort(key=lambda pair: pair[0])
    return [(u, v) for _, u, v in pairs[:2]]


def _grow(blobs: Blobs, free: NDArray[np.bool_], seed: int, u: FloatArray, v: FloatArray) -> dict[tuple[int, int], int]:
    """Walk from neighbour to neighbour; the step is learnt anew on the way, so that perspective may change it."""
    places = {(0, 0): seed}
    taken = {seed}
    steps = {(0, 0): (u, v)}
    queue = deque([(0, 0)])
    while queue and len(places) < MOST_BLOBS:
        node = queue.popleft()
        here, (u, v) = blobs.centres[places[node]], steps[node]
        for column, row in ((1, 0), (0, 1), (-1, 0), (0, -1)):
            target = (node[0] + column, node[1] + row)
            if target in places:
                continue
            step = column * u + row * v
            gap = np.hypot(*(blobs.centres - here - step).T)
            hit = int(np.argmin(np.where(free, gap, np.inf)))
            if hit in taken or gap[hit] > STRAY * float(np.hypot(*step)):
                continue
            if not 0.5 < blobs.sides[hit] / blobs.sides[places[node]] < 2.0:
                continue
            places[target] = hit
            taken.add(hit)
            learnt = (blobs.centres[hit] - here) * (column + row)
            steps[target] = (0.5 * (u + learnt), v) if column else (u, 0.5 * (v + learnt))
            queue.append(target)
    return places


def _fit(blobs: Blobs, free: NDArray[np.bool_], places: dict[tuple[int, int], int]) -> tuple[Lattice, IntArray] | None:
    """Fit one homography to a grown grid, and take in the patches that lie across a gap."""
    nodes = np.array(list(places), dtype=np.int64)
    taken = np.array(list(places.values()), dtype=np.int64)
    for _ in range(3):
        homography = _homography(nodes, blobs.centres[taken])
        if homography is None:
            return None
        before = len(nodes)
        nodes, taken = _gather(blobs, free, homography, nodes, taken)
        if len(nodes) == before:
            break
    nodes = nodes - nodes.min(axis=0)
    homography = _homography(nodes, blobs.centres[taken])
    if homography is None:
        return None
    sides = blobs.sides[taken] / _pitches(homography, nodes)
    side = float(np.median(sides))
    if not 0.25 < side < 1.0:
        return None
    whole = (sides > CUT[0] * side) & (sides < CUT[1] * side)
    better = _homography(nodes[whole], blobs.centres[taken][whole])
    homography = homography if better is None else better
    points = np.where(whole[:, None], blobs.centres[taken], project(homography, nodes.astype(np.float64)))
    return Lattice(nodes, points, homography, side), taken


def _gather(
    blobs: Blobs, free: NDArray[np.bool_], homography: FloatArray, nodes: IntArray, taken: IntArray
) -> tuple[IntArray, IntArray]:
    """All areas that lie on a grid's nodes, up to two nodes beyond those known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        back = project(np.asarray(np.linalg.inv(homography), dtype=np.float64), blobs.centres)
    spot = np.where(np.isfinite(back), np.rint(np.clip(back, -999, 999)), 999).astype(np.int64)
    off = np.hypot(*(back - spot).T)
    near = free & (off < STRAY)
    near &= (spot >= nodes.min(axis=0) - 2).all(axis=1) & (spot <= nodes.max(axis=0) + 2).all(axis=1)
    candidates = np.flatnonzero(near)
    usual = float(np.median(blobs.sides[taken] / _pitches(homography, nodes)))
    sides = blobs.sides[candidates] / _pitches(homography, spot[candidates])
    candidates = candidates[(sides > 0.5 * usual) & (sides < 1.6 * usual)]
    candidates = candidates[np.argsort(off[candidates])]
    spots, first = np.unique(spot[candidates], axis=0, return_index=True)
    return (spots, candidates[first]) if len(spots) >= FEWEST_NODES else (nodes, taken)


def _homography(nodes: IntArray, points: FloatArray) -> FloatArray | None:
    """Grid to pixels; affine while there are too few patches to know the perspective."""
    if len(nodes) < 3 or min(np.ptp(nodes, axis=0)) < 1:
        return None
    source, target = nodes.astype(np.float64), points.astype(np.float64)
    if len(nodes) < 8 or min(np.ptp(nodes, axis=0)) < 2:
        lifted = np.hstack([source, np.ones((len(source), 1))])
        solution, *_ = np.linalg.lstsq(lifted, target, rcond=None)
        return np.vstack([solution.T, [0.0, 0.0, 1.0]])
    matrix, _ = cv2.findHomography(source, target, 0)
    if matrix is None or not np.isfinite(matrix).all() or abs(float(np.linalg.det(matrix))) < 1e-9:
        return None
    return np.asarray(matrix, dtype=np.float64)


def _pitches(homography: FloatArray, nodes: IntArray) -> FloatArray:
    """Mean distance to the next grid point at each node, in pixels: float64 [K]."""
    around = 0.5 * np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    left, right, above, below = np.moveaxis(project(homography, nodes[:, None] + around), 1, 0)
    return np.asarray((np.hypot(*(right - left).T) + np.hypot(*(below - above).T)) / 2, dtype=np.float64)
