"""Find a colour chart in a picture and take the colours of its patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.chart.blobs import Picture, field_of_view, find_blobs
from calibration.chart.corners import as_corners, lattices_from_corners, ordered_corners
from calibration.chart.failures import SMALLEST_PICTURE, ChartNotFound, explain
from calibration.chart.judge import TILE_PATCHES, Verdict, judge
from calibration.chart.lattice import Lattice, find_lattices
from calibration.chart.match import FEWEST_WITH_ANCHORS, Anchors, Placement, best_placements, make_sampler
from calibration.chart.mcc import mcc_boxes
from calibration.chart.measure import Patches, measure, sample
from calibration.chart.outline import chart_corners, patch_boxes, same_chart, turned
from calibration.chart.sharpness import edge_width
from calibration.colour import lab_to_linear
from calibration.references import COLORCHECKER24, ReferenceChart

FloatArray = NDArray[np.float64]
Kind = Literal["auto", "classic", "passport", "mini", "nano", "tile"]
How = Literal["grid", "mcc", "corners"]

WORKING_SIDE: Final = 900
"""Pixels of the longer side that charts are looked for at."""
SMALLEST_PATCH: Final = 6.0
"""Side in pixels of the area that a patch's colour is taken from, at full resolution."""
WIDEST_EDGE: Final = 0.19
"""Width of a patch's edge, in pitches, beyond which neighbours and frame bleed into its colour."""
DARKEST: Final = 0.06
"""Least light recorded, as a share of what white at the top of the scale would give: four stops under."""
UNEVEN, UNEVEN_SHARE = 0.2, 0.1
"""Variation within a patch, and the share of patches with it, that says the boxes do not lie on patches."""
NOISELESS: Final = 0.05
"""Standard deviation within a patch, 8-bit levels, that no camera stays below."""


@dataclass(frozen=True, eq=False)
class Detection:
    """A chart found in a picture, and its colours."""

    patches: Patches
    kind: str
    """The reference's name; for a tile with the number of patches seen."""
    corners: NDArray[np.float32]
    """float32 [4,2], pixels: outer corners of the patch area, clockwise from the chart's top left patch."""
    how: How
    """``grid`` (our own search), ``mcc`` (OpenCV's) or ``corners`` (given)."""
    places: NDArray[np.int64]
    """int64 [N]: which patch of the reference each is, from 0."""
    difference: FloatArray
    """float64 [N]: CIEDE2000 that each patch keeps after a robust fit; for acceptance only, no measure of quality."""
    turned: float
    """Degrees clockwise that the chart lies turned in the picture, -180 to 180."""


def detect_chart(
    rgb: Picture,
    *,
    kind: Kind = "auto",
    corners: ArrayLike | None = None,
    target: ReferenceChart | None = None,
    timeout_s: float = 10.0,
) -> Detection:
    """Find the one chart in a picture and measure its patches at full resolution.

    Args:
        rgb: uint8 [H,W,3], RGB.
        kind: ``tile`` for a shot that shows part of a chart (a dermoscope's field), else the whole chart must be in
            view. The others are the same chart at different sizes and are found alike.
        corners: four points x, y in pixels (outer corners of the corner patches, any order) where the search fails.
        target: a vendor's own chart instead of the 24 patches.
        timeout_s: limit for the process that OpenCV's detector runs in, which is asked when our own search fails.

    Raises:
        ChartNotFound: no chart, or one that cannot be used; one sentence for the technician.
        ValueError: ``rgb`` is no RGB picture, or ``kind`` is unknown.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"a picture is uint8 [H,W,3], this is {rgb.dtype} {list(rgb.shape)}")
    if kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r} is none of {', '.join(get_args(Kind))}")
    return Search(rgb, target or COLORCHECKER24, tile=kind == "tile").run(corners, timeout_s)


class Search:
    """One picture on its way to a detection; keeps the small copy that everything is looked for in."""

    def __init__(self, rgb: Picture, reference: ReferenceChart, *, tile: bool) -> None:
        height, width = rgb.shape[:2]
        if min(height, width) < SMALLEST_PICTURE:
            raise ChartNotFound(
                f"The picture of {width} x {height} pixels is too small for a chart: use the camera's full size."
            )
        self.rgb, self.reference, self.tile = np.ascontiguousarray(rgb), reference, tile
        self.scale = min(WORKING_SIDE / max(height, width), 2.0)
        method = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        size = (round(width * self.scale), round(height * self.scale))
        self.small = np.asarray(cv2.resize(self.rgb, size, interpolation=method), dtype=np.uint8)
        self.field = field_of_view(self.small) if tile else None
        self.blobs = find_blobs(self.small, self.field)

    def run(self, corners: ArrayLike | None, timeout_s: float, anchors: Anchors | None = None) -> Detection:
        """Look by every means until one gives a chart; see :func:`detect_chart`."""
        height, width = self.rgb.shape[:2]
        if corners is not None:
            points = self._to_small(ordered_corners(corners, width, height))
            lattices = lattices_from_corners(points, self.reference.rows, self.reference.columns, self.blobs)
            return self._decide(self._verdicts(lattices, anchors), "corners")
        verdicts = self._verdicts(find_lattices(self.blobs), anchors)
        if self.tile or any(verdict.sentence or verdict.placement for verdict in verdicts):
            return self._decide(verdicts, "grid")
        if (self.reference.rows, self.reference.columns) == (COLORCHECKER24.rows, COLORCHECKER24.columns):
            rows, columns = COLORCHECKER24.rows, COLORCHECKER24.columns
            for box in mcc_boxes(self.small, timeout_s=timeout_s):
                lattices = lattices_from_corners(as_corners(box), rows, columns, self.blobs)
                verdicts += self._verdicts(lattices, anchors)
        return self._decide(verdicts, "mcc")

    def _verdicts(self, lattices: list[Lattice], anchors: Anchors | None) -> list[Verdict]:
        fewest = FEWEST_WITH_ANCHORS if anchors is not None else TILE_PATCHES
        verdicts = []
        for lattice in lattices:
            sampler = make_sampler(self.small, lattice, self.field)
            placements = best_placements(lattice, self.reference, sampler, anchors=anchors)
            verdicts += judge(lattice, placements, self.reference, tile=self.tile, fewest=fewest)
        return verdicts

    def _decide(self, verdicts: list[Verdict], how: How) -> Detection:
        """One chart, or the sentence that says best why there is none."""
        charts: list[tuple[Lattice, Placement, FloatArray]] = []
        for verdict in verdicts:
            if verdict.placement is not None:
                outline = chart_corners(verdict.lattice, verdict.placement, self.reference)
                if not any(same_chart(outline, other) for _, _, other in charts):
                    charts.append((verdict.lattice, verdict.placement, outline))
        if len(charts) > 1:
            raise ChartNotFound(f"{len(charts)} charts are in the picture: leave one in view, or give its corners.")
        if charts:
            return self._measured(*charts[0], how)
        sentences = [verdict.sentence for verdict in verdicts if verdict.sentence]
        if sentences:
            raise ChartNotFound(sentences[0])
        if how == "corners":
            raise ChartNotFound("The colours between the given corners are not the chart's: check the four corners.")
        raise ChartNotFound(explain(self.small, tile=self.tile))

    def _measured(self, lattice: Lattice, placement: Placement, outline: FloatArray, how: How) -> Detection:
        """Take the colours at full resolution, and refuse what no profile may be made from."""
        reference = self.reference
        chosen = np.flatnonzero(placement.seen)
        boxes = self._to_full(patch_boxes(lattice, placement, reference))
        sides = np.hypot(*np.moveaxis(boxes - np.roll(boxes, 1, axis=1), -1, 0))
        if float(np.median(sides)) < SMALLEST_PATCH:
            raise ChartNotFound("The chart is too small in the picture: move closer until it fills half of it.")
        if edge_width(self.small, lattice, placement.cells, (reference.rows, reference.columns)) > WIDEST_EDGE:
            raise ChartNotFound("The chart is blurred, its patches run into each other: focus on it and hold still.")
        patches = measure(self.rgb, boxes, chosen, reference)
        if _exchanged(patches.linear, reference.lab_d50[chosen]):
            raise ChartNotFound(
                "The picture's red, green and blue are exchanged: give the file as the camera wrote it."
            )
        if _exposure(patches, reference.lab_d50[chosen]) < DARKEST:
            raise ChartNotFound("The chart is under-exposed: raise the exposure or the light and take it again.")
        if float((patches.variation > UNEVEN).mean()) > UNEVEN_SHARE:
            raise ChartNotFound("The patches are not even where they were found: light the chart evenly and retake.")
        if float(np.median(sample(self.rgb, boxes).std(axis=(1, 2)))) < NOISELESS:
            raise ChartNotFound("This is a drawing or a screenshot, no patch has any noise: photograph the real chart.")
        whole = len(chosen) == len(placement.seen)
        return Detection(
            patches=patches,
            kind=reference.name if whole else f"{len(chosen)} patches of {reference.name}",
            corners=self._to_full(outline).astype(np.float32),
            how=how,
            places=chosen,
            difference=placement.difference[chosen],
            turned=turned(outline),
        )

    def _to_full(self, points: FloatArray) -> FloatArray:
        return np.asarray((points + 0.5) / self.scale - 0.5, dtype=np.float64)

    def _to_small(self, points: FloatArray) -> FloatArray:
        return np.asarray((points + 0.5) * self.scale - 0.5, dtype=np.float64)


def _exposure(patches: Patches, lab: FloatArray) -> float:
    """Light recorded over light reflected, the median patch; 1 puts a perfect white at the top of the scale."""
    return float(np.median(patches.linear.max(axis=1) / np.maximum(lab_to_linear(lab).max(axis=1), 1e-3)))


def _exchanged(linear: FloatArray, lab: FloatArray) -> bool:
    """Red runs against blue or green where the chart has it run along; a 3x3 matrix would fit this as well."""
    seen, known = (np.log(np.maximum(each, 0.002)) for each in (linear, lab_to_linear(lab)))
    for other in (1, 2):
        ratios = np.stack([seen[:, 0] - seen[:, other], known[:, 0] - known[:, other]])
        if (ratios.std(axis=1) > 0.2).all() and float(np.corrcoef(ratios)[0, 1]) < 0:
            return True
    return False
