"""Colours of the patches of a chart at full resolution, and what is wrong with each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.chart.blobs import Picture
from calibration.chart.failures import ChartNotFound, listed
from calibration.colour import linear_to_srgb, srgb_to_linear
from calibration.references import ReferenceChart

FloatArray = NDArray[np.float64]
Flags = NDArray[np.bool_]
Gain = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.floating]]

MOST_SAMPLES: Final = 64
"""Pixels taken along each side of a patch; more than 64 x 64 would not change the mean by a thousandth."""
CELLS, COARSE_CELLS = 4, 2
SMALLEST_CELL: Final = 8
"""Unevenness is judged between 4 x 4 parts of a patch, so that the noise of single pixels does not count as such; of a
patch under 32 pixels between 2 x 2, since parts smaller than a JPEG block (8 pixels) show the block's own errors."""
BRIGHT_LEVEL, BRIGHT_SHARE = 254, 0.02
DARK_LEVEL, DARK_SHARE = 2, 0.5
VARIATION_FLOOR: Final = 0.02
"""Linear light below which unevenness is taken relative to this: a black patch of 0.2 % is not uneven for 0.02 %."""
SHOTS_DIFFER: Final = 0.15
"""Largest difference of one patch between two shots, relative to the larger; more means the exposure has moved."""

_LINEAR = srgb_to_linear(np.arange(256) / 255.0)
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, eq=False)
class Patches:
    """What a camera recorded for each patch; N is the chart's number of patches, fewer in a tile."""

    names: tuple[str, ...]
    rgb: FloatArray
    """float64 [N,3]: mean of the encoded values, 0..1, RGB."""
    linear: FloatArray
    """float64 [N,3]: mean in linear light (sRGB curve), 0..1, RGB."""
    variation: FloatArray
    """float64 [N]: coefficient of variation of linear luminance between the parts of a patch (0.05 = 5 %)."""
    clipped: Flags
    """bool [N]: more than 2 % of the pixels have a channel at its top."""
    crushed: Flags
    """bool [N]: half of the pixels and more are black in all channels (of a grey patch: in any)."""
    boxes: NDArray[np.float32]
    """float32 [N,4,2]: corners of the sampled area in pixels, clockwise from the chart's top left."""


def measure(rgb: Picture, boxes: FloatArray, chosen: NDArray[np.int64], reference: ReferenceChart) -> Patches:
    """Measure patches of a picture.

    Args:
        rgb: uint8 [H,W,3], RGB, at full resolution.
        boxes: float64 [K,4,2], pixels, clockwise from the chart's top left, inside the picture.
        chosen: int64 [K]: which patch of the reference each box is.
        reference: the chart.
    """
    pixels = sample(rgb, boxes)
    linear = _LINEAR[pixels]
    clipped = (pixels >= BRIGHT_LEVEL).any(axis=-1).mean(axis=(1, 2)) > BRIGHT_SHARE
    dark = pixels <= DARK_LEVEL
    neutral = np.isin(chosen, reference.neutral)
    crushed = np.where(neutral[:, None, None], dark.any(axis=-1), dark.all(axis=-1)).mean(axis=(1, 2)) >= DARK_SHARE
    return Patches(
        names=tuple(reference.patch_names[index] for index in chosen),
        rgb=pixels.mean(axis=(1, 2)) / 255.0,
        linear=linear.mean(axis=(1, 2)),
        variation=_variation(linear),
        clipped=clipped,
        crushed=crushed,
        boxes=boxes.astype(np.float32),
    )


def evened(rgb: Picture, patches: Patches, gain: Gain) -> Patches:
    """Patches as even light would have given them; whether they were clipped or crushed stays as the camera gave it.

    Args:
        rgb: uint8 [H,W,3], RGB: the picture they were measured in.
        patches: as measured.
        gain: rows and columns of pixels [...] to the flat field's factors [...,3], which act in linear light.
    """
    rows, columns = _places(rgb, patches.boxes.astype(np.float64))
    linear = _LINEAR[rgb[rows, columns]] * gain(rows, columns)
    mean = linear.mean(axis=(1, 2))
    return replace(patches, linear=mean, rgb=linear_to_srgb(mean), variation=_variation(linear))


def sample(rgb: Picture, boxes: FloatArray) -> Picture:
    """Pixels of each box on a square grid: uint8 [K,S,S,3]; values as they are in the file, none interpolated."""
    return np.asarray(rgb[_places(rgb, boxes)], dtype=np.uint8)


def _places(rgb: Picture, boxes: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels sampled in each box, [K,S,S] each, by bilinear steps between its corners."""
    sides = np.hypot(*np.moveaxis(boxes - np.roll(boxes, 1, axis=1), -1, 0))
    size = int(np.clip(np.median(sides) // CELLS * CELLS, CELLS, MOST_SAMPLES))
    at = (np.arange(size) + 0.5) / size
    down, across = np.meshgrid(at, at, indexing="ij")
    weights = np.stack([(1 - across) * (1 - down), across * (1 - down), across * down, (1 - across) * down])
    points = np.rint(np.einsum("cij,kcd->kijd", weights, boxes)).astype(np.intp)
    height, width = rgb.shape[:2]
    return points[..., 1].clip(0, height - 1), points[..., 0].clip(0, width - 1)


def _variation(linear: FloatArray) -> FloatArray:
    """Coefficient of variation between the parts of each patch, float64 [K], from linear pixels [K,S,S,3]."""
    luminance = linear @ _LUMINANCE
    count, side = luminance.shape[:2]
    across = CELLS if side >= CELLS * SMALLEST_CELL else COARSE_CELLS
    part = side // across
    cells = luminance[:, : part * across, : part * across].reshape(count, across, part, across, part).mean(axis=(2, 4))
    level = np.maximum(luminance.mean(axis=(1, 2)), VARIATION_FLOOR)
    return np.asarray(cells.std(axis=(1, 2)) / level, dtype=np.float64)


def merge_patches(shots: list[Patches], reference: ReferenceChart | None = None) -> Patches:
    """Join the patches of several shots (tiles of one chart) to one set; what several shots saw is averaged.

    Args:
        shots: of the same chart under the same light and exposure.
        reference: gives the order, and every one of its patches must have been seen; without it the patches come in
            the order they were first seen, however many there are.

    Raises:
        ChartNotFound: no shots, a patch is in none of them, or the shots disagree about a patch.
    """
    if not shots:
        raise ChartNotFound("There is no picture of the chart: give at least one.")
    seen: dict[str, list[tuple[int, int]]] = {}
    for number, shot in enumerate(shots):
        for index, name in enumerate(shot.names):
            seen.setdefault(name, []).append((number, index))
    names = reference.patch_names if reference is not None else tuple(seen)
    missing = [name for name in names if name not in seen]
    if missing:
        raise ChartNotFound(f"No shot shows {listed(missing)}: take a further shot with it fully in the field of view.")
    for name in names:
        levels = [float(shots[number].linear[index].mean()) for number, index in seen[name]]
        apart = max(levels) - min(levels)
        if apart > max(SHOTS_DIFFER * max(levels), 0.005):
            raise ChartNotFound(
                f"The shots disagree about {name} by {apart / max(levels):.0%}: correct them with the flat field, "
                "fix exposure and white balance, and take all shots again."
            )

    def joined(field: str) -> NDArray[np.float64]:
        return np.array([np.mean([getattr(shots[n], field)[i] for n, i in seen[name]], axis=0) for name in names])

    def worst(field: str) -> NDArray[np.float64]:
        return np.array([np.max([getattr(shots[n], field)[i] for n, i in seen[name]], axis=0) for name in names])

    return Patches(
        names=tuple(names),
        rgb=joined("rgb"),
        linear=joined("linear"),
        variation=worst("variation"),
        clipped=worst("clipped").astype(np.bool_),
        crushed=worst("crushed").astype(np.bool_),
        boxes=np.array([shots[seen[name][0][0]].boxes[seen[name][0][1]] for name in names], dtype=np.float32),
    )
