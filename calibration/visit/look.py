"""From picture files to the measured patches of a chart: found, evened out by the flat field, joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.chart import (
    ChartNotFound,
    Detection,
    Patches,
    detect_chart,
    detect_tiles,
    draw_detection,
    evened,
    merge_patches,
)
from calibration.chart.detect import Kind
from calibration.colour import linear_to_srgb, srgb_to_linear
from calibration.correction.flatfield import GainMap, centres
from calibration.references import COLORCHECKER24, ReferenceChart
from calibration.shelf.profile import ChartUsed
from calibration.visit.pictures import RGB, Picture

Progress = Callable[[str], None]

FOUND_BY: Final = {"grid": "by its patches", "mcc": "by OpenCV's detector", "corners": "by the given corners"}
_LINEAR: Final = srgb_to_linear(np.arange(256) / 255.0)


def silent(_text: str) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Order:
    """What to look for."""

    kind: Kind = "auto"
    corners: tuple[tuple[float, float], ...] | None = None
    """Four points in pixels; for a single shot."""
    target: ReferenceChart | None = None
    """A vendor's own chart."""

    @property
    def reference(self) -> ReferenceChart:
        """The chart's colours."""
        return self.target or COLORCHECKER24


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen of the chart in one shot or in several."""

    pictures: tuple[Picture, ...]
    detections: tuple[Detection, ...]
    """One for each picture."""
    patches: Patches
    """Of all shots together, evened out by the flat field, in the reference's order."""
    raw: NDArray[np.float64]
    """float64 [N, 3], encoded 0..1: the same as the camera gave them."""
    reference: ReferenceChart
    tiles: bool
    """Each shot shows a part only."""

    def chart_used(self, target_serial: str | None) -> ChartUsed:
        """How a document names it."""
        ways = dict.fromkeys(FOUND_BY[detection.how] for detection in self.detections)
        return ChartUsed(
            reference=self.reference.name,
            kind="tiles" if self.tiles else "whole",
            rows=self.reference.rows,
            columns=self.reference.columns,
            target_serial=target_serial,
            found_by=" and ".join(ways),
            shots=tuple(picture.shot() for picture in self.pictures),
        )

    def drawn(self, number: int) -> RGB:
        """A shot with its patches marked."""
        return draw_detection(self.pictures[number].rgb, self.detections[number])


def find(pictures: Sequence[Picture], order: Order, gain: GainMap | None = None, progress: Progress = silent) -> Look:
    """Find the chart in one shot or in several, and measure it.

    Several shots each show the whole chart, or each a part of it, as a dermoscope's small field does.

    Args:
        pictures: at least one.
        order: which chart, and where.
        gain: the flat field's gain map, which acts in linear light.
        progress: told what is being done.

    Raises:
        ChartNotFound: with the file's name where there are several.
        GainMapMismatch: the gain map is of another shape of picture.
    """
    detections, tiles = detect_each(pictures, order, gain, progress)
    reference = order.reference
    even = [_evened(picture.rgb, found.patches, gain) for picture, found in zip(pictures, detections, strict=True)]
    progress("measuring the patches")
    if len(even) == 1 and len(even[0].names) != len(reference.patch_names):
        seen, all_ = len(even[0].names), len(reference.patch_names)
        raise ChartNotFound(
            f"The shot shows {seen} of the chart's {all_} patches: shoot the other parts of the chart too, and "
            "give all "
            "shots together."
        )
    patches = merge_patches(even, reference)
    raw = _mean_of_shots([found.patches for found in detections], reference)
    return Look(tuple(pictures), tuple(detections), patches, raw, reference, tiles)


def detect_each(
    pictures: Sequence[Picture], order: Order, gain: GainMap | None = None, progress: Progress = silent
) -> tuple[list[Detection], bool]:
    """One detection for each picture, and whether they show parts of the chart.

    Where the first of several shots shows no whole chart, all are taken for parts of one.

    Raises:
        ChartNotFound: with the file's name where there are several.
    """
    if order.corners is not None and len(pictures) > 1:
        raise ChartNotFound("Corners belong to one shot: give one shot with --corners, or several without.")
    if order.kind != "tile":
        found: list[Detection] = []
        try:
            for number, picture in enumerate(pictures):
                progress(f"looking for the chart in {picture.path.name} ({number + 1} of {len(pictures)})")
                found.append(detect_chart(picture.rgb, kind=order.kind, corners=order.corners, target=order.target))
        except ChartNotFound as failure:
            if len(pictures) == 1:
                raise
            if found:
                raise ChartNotFound(f"{pictures[len(found)].path.name}: {failure}") from failure
        else:
            return found, False
    progress("looking for parts of the chart")
    even = [even_picture(picture.rgb, gain) for picture in pictures]
    return detect_tiles(even, target=order.target), True


def even_picture(rgb: RGB, gain: GainMap | None) -> RGB:
    """A picture in even light: uint8 [H, W, 3]; for finding the chart, since what is too bright is cut."""
    if gain is None:
        return rgb
    light = _LINEAR[rgb] * _full_size(gain, rgb)
    return np.rint(np.clip(linear_to_srgb(light), 0.0, 1.0) * 255.0).astype(np.uint8)


def _evened(rgb: RGB, patches: Patches, gain: GainMap | None) -> Patches:
    """Patches as they would be in even light; whether they were clipped or crushed stays what the camera gave."""
    if gain is None:
        return patches
    # Pixel by pixel in floating point: in a picture of eight bits the white patch would be cut off.
    gains = _full_size(gain, rgb)
    return evened(rgb, patches, lambda rows, columns: gains[rows, columns])


def _full_size(gain: GainMap, rgb: RGB) -> NDArray[np.float32]:
    """The gain at each pixel: float32 [H, W, 3]."""
    height, width = rgb.shape[:2]
    gain.check(height, width)
    return gain.at(centres(height), centres(width))


def _mean_of_shots(shots: Sequence[Patches], reference: ReferenceChart) -> NDArray[np.float64]:
    """Encoded values [N, 3] in the reference's order, the mean of all shots that show a patch."""
    seen: dict[str, list[NDArray[np.float64]]] = {}
    for shot in shots:
        for name, value in zip(shot.names, shot.rgb, strict=True):
            seen.setdefault(name, []).append(value)
    return np.array([np.mean(seen[name], axis=0) for name in reference.patch_names])
