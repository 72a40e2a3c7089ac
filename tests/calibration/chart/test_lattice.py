"""Grids without colours: areas, neighbours, gaps, perspective."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.chart.blobs import MOST_BLOBS, Blobs, field_of_view, find_blobs
from calibration.chart.lattice import find_lattices, project


def grid(columns: int, rows: int, homography: NDArray[np.float64] | None = None, side: float = 30.0) -> Blobs:
    nodes = np.array([[c, r] for r in range(rows) for c in range(columns)], dtype=np.float64)
    matrix = np.array([[40.0, 4.0, 60.0], [-4.0, 40.0, 60.0], [0.0, 0.0, 1.0]]) if homography is None else homography
    return Blobs(project(matrix, nodes), np.full(len(nodes), side))


def test_a_grid_is_recovered() -> None:
    (lattice,) = find_lattices(grid(6, 4))
    assert lattice.nodes.max(axis=0).tolist() in ([5, 3], [3, 5])
    assert len(lattice.nodes) == 24
    np.testing.assert_allclose(lattice.project(lattice.nodes), lattice.points, atol=1e-6)
    assert lattice.side == pytest.approx(30 / np.hypot(40, 4))
    assert np.linalg.det(lattice.homography[:2, :2]) > 0, "columns and rows run clockwise as seen"


def test_perspective() -> None:
    matrix = np.array([[42.0, 4.0, 60.0], [-4.0, 40.0, 60.0], [0.02, 0.03, 1.0]])
    (lattice,) = find_lattices(grid(6, 4, matrix))
    assert len(lattice.nodes) == 24
    np.testing.assert_allclose(lattice.project(lattice.nodes), lattice.points, atol=1e-3)


def test_gaps_and_strangers_do_not_matter() -> None:
    full = grid(6, 4)
    keep = [n for n in range(24) if n not in (3, 9, 15)]
    random = np.random.default_rng(2)
    strange = np.vstack([full.centres[keep], random.uniform(0, 600, (25, 2))])
    sides = np.concatenate([full.sides[keep], random.uniform(5, 90, 25)])
    lattice = find_lattices(Blobs(strange, sides))[0]
    found = {tuple(np.rint(p).astype(int)) for p in lattice.points}
    assert len(found & {tuple(np.rint(p).astype(int)) for p in full.centres[keep]}) >= 20


def test_two_grids() -> None:
    one = grid(6, 4)
    two = grid(4, 6, np.array([[30.0, -30.0, 700.0], [30.0, 30.0, 60.0], [0.0, 0.0, 1.0]]))
    both = Blobs(np.vstack([one.centres, two.centres]), np.concatenate([one.sides, two.sides]))
    assert [len(lattice.nodes) for lattice in find_lattices(both)] == [24, 24]


@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_no_grid(count: int) -> None:
    random = np.random.default_rng(count)
    lattices = find_lattices(Blobs(random.uniform(0, 5000, (count, 2)), random.uniform(5, 60, count)))
    assert all(len(lattice.nodes) < 8 for lattice in lattices)


def test_a_row_is_no_grid() -> None:
    assert find_lattices(grid(8, 1)) == []


def test_blobs_are_areas_with_edges_all_round() -> None:
    picture = np.full((300, 400, 3), 90, np.uint8)
    picture[50:100, 50:100] = (200, 60, 60)
    picture[50:100, 150:200] = (100, 90, 90)  # ten levels of difference are enough
    picture[150:160, 50:350] = 250  # a bar
    cv2.circle(picture, (300, 230), 4, (0, 0, 0), -1)  # too small
    picture[250:300, 0:50] = (20, 20, 90)  # cut by the picture's edge
    blobs = find_blobs(picture)
    near = {tuple((np.rint(centre / 5) * 5).astype(int)) for centre in blobs.centres}
    assert near == {(75, 75), (175, 75)}
    assert ((blobs.sides > 42) & (blobs.sides <= 50)).all()


def test_the_work_is_bounded() -> None:
    checks = np.kron(np.indices((90, 90)).sum(axis=0) % 2 * 200, np.ones((10, 10))).astype(np.uint8)
    assert len(find_blobs(np.dstack([checks] * 3)).sides) <= MOST_BLOBS


def test_the_field_of_a_dermoscope() -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    cv2.circle(picture, (150, 100), 80, (120, 110, 100), -1)
    cv2.rectangle(picture, (120, 60), (180, 140), (0, 0, 0), -1)  # a black patch is inside all the same
    field = field_of_view(picture)
    assert field[100, 150] == 1
    assert field[5, 5] == 0
    assert field.sum() == pytest.approx(np.pi * 80**2, rel=0.03)
    assert field_of_view(np.zeros((50, 50, 3), np.uint8)).sum() == 0
