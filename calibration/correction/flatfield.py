"""The flat field: a gain map from white frames that evens out a dermoscope's light, and the map itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.colour import Floats, srgb_to_linear
from calibration.correction.colour_model import LUMINANCE

Frame = NDArray[np.uint8]

LEAST_GAIN: Final = 0.5
MOST_GAIN: Final = 2.0
"""Gains beyond these would raise noise or hide a broken lamp: they are clamped, or refused where there are many."""
LONG_SIDE: Final = 64
"""Cells along the map's longer side: light falls off smoothly, and what is finer is dirt."""
ASPECT_SLACK: Final = 0.01
CLIPPED_LEVEL: Final = 253
CLIPPED_SHARE: Final = 0.01
DARKEST: Final = 0.10
"""Linear light, of the brightest part of the frame, below which a frame is too dark to tell the light from noise."""
OUTSIDE: Final = 0.12
"""Share of the brightest part below which a cell lies outside the dermoscope's round field."""
CLAMPED_SHARE: Final = 0.25
TEXTURE: Final = 0.03
"""Relative deviation from a smooth surface, within the field, from which the frame shows more than white paper."""
COLOURED: Final = 0.35
"""How far a channel may be from the others (relative) in a frame that is to be white."""
_LINEAR: Final = srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)


class FlatFieldRefused(ValueError):
    """The frames cannot make a flat field: one sentence that says what to do."""


class GainMapMismatch(ValueError):
    """A gain map of another shape of picture: one sentence that says what to do."""


@dataclass(frozen=True, eq=False)
class GainMap:
    """Gains in linear light (sRGB curve), for pictures of any size in the frames' shape."""

    gain: NDArray[np.float32]
    """float32 [h, w, 3], RGB, within 0.5 to 2; cell centres spread evenly over the picture."""
    size: tuple[int, int]
    """Height and width, in pixels, of the frames it was made from."""

    def __post_init__(self) -> None:
        gain = np.array(self.gain, dtype=np.float32)
        if gain.ndim == 2:
            gain = np.repeat(gain[..., None], 3, axis=2)
        if gain.ndim != 3 or gain.shape[2] != 3 or 0 in gain.shape or min(self.size) < 1:
            raise ValueError(f"a gain map is [h, w, 3], this is {list(gain.shape)} for a picture of {self.size}")
        if not (np.isfinite(gain).all() and gain.min() >= LEAST_GAIN - 1e-3 and gain.max() <= MOST_GAIN + 1e-3):
            raise ValueError(f"a gain map holds gains of {LEAST_GAIN:g} to {MOST_GAIN:g} and nothing else")
        gain.setflags(write=False)
        object.__setattr__(self, "gain", gain)

    def fits(self, height: int, width: int) -> bool:
        """Whether a picture of this size has the shape of the frames; a halved one has."""
        return abs(height * self.size[1] - width * self.size[0]) <= ASPECT_SLACK * width * self.size[0]

    def check(self, height: int, width: int) -> None:
        """Raises GainMapMismatch for a picture of another shape than the frames'."""
        if not self.fits(height, width):
            raise GainMapMismatch(
                f"The picture is {width}×{height} and the flat field was taken at {self.size[1]}×{self.size[0]}, "
                "another shape: set the camera as it was then, or calibrate this setting."
            )

    def at(self, down: ArrayLike, across: ArrayLike) -> NDArray[np.float32]:
        """The gains where rows ``down [H]`` and columns ``across [W]`` cross (0 to 1 of the picture): ``[H, W, 3]``."""
        rows, columns = (shares(where, cells) for where, cells in zip((down, across), self.gain.shape, strict=False))
        tall = (rows @ self.gain.reshape(len(self.gain), -1)).reshape(len(rows), -1, 3)
        wide: NDArray[np.float32] = columns @ tall
        return wide


def centres(count: int, start: float = 0.0, extent: float = 1.0) -> Floats:
    """Where the middles of ``count`` pixels lie that share the stretch ``start`` to ``start + extent``: ``[count]``."""
    return start + extent * (np.arange(count) + 0.5) / count


def shares(where: ArrayLike, cells: int) -> NDArray[np.float32]:
    """Each cell's share in a straight line through the cells' middles, at places 0 to 1: float32 ``[N, cells]``.

    Beyond the first and the last middle the line goes on level.
    """
    place = np.clip(np.asarray(where, dtype=np.float64) * cells - 0.5, 0.0, cells - 1.0)
    share = 1.0 - np.abs(place[:, None] - np.arange(cells))
    return np.maximum(share, 0.0).astype(np.float32)


def gain_map(frames: Sequence[Frame]) -> GainMap:
    """The gains that make white frames even, per channel; the middle of the picture keeps its colour and brightness.

    The median over the frames in linear light, at 64 cells, smoothed: turn or move the paper between frames, and its
    dirt and texture go away.

    Args:
        frames: at least one, uint8 [H, W, 3], sRGB, all of one size; white, matt, filling the field.

    Raises:
        FlatFieldRefused: none, of different sizes, over-exposed, too dark, coloured, or no even surface.
    """
    if not frames:
        raise FlatFieldRefused("There is no white frame: photograph plain white paper through the dermoscope.")
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1 or any(frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 for frame in frames):
        raise FlatFieldRefused("The white frames differ in size: take all of them with one setting of the camera.")
    height, width = frames[0].shape[:2]
    cells = np.stack([_cells(frame) for frame in frames])
    level: NDArray[np.float32] = np.median(cells, axis=0).astype(np.float32)
    field = _check(frames, level)
    smooth = _smooth(level, field)
    _check_texture(level, smooth, field)
    rows, columns = level.shape[:2]
    middle = smooth[rows * 3 // 8 : rows * 5 // 8 + 1, columns * 3 // 8 : columns * 5 // 8 + 1]
    gain = middle.mean(axis=(0, 1)) / smooth
    clamped = float(((gain < LEAST_GAIN) | (gain > MOST_GAIN)).any(axis=2)[field].mean())
    if clamped > CLAMPED_SHARE:
        raise FlatFieldRefused(
            f"The light is too uneven to be corrected in {clamped:.0%} of the field (by more than a factor of 2): "
            "check the lamps and that the dermoscope lies flat, and take the white frames again."
        )
    return GainMap(np.clip(gain, LEAST_GAIN, MOST_GAIN), (height, width))


def _cells(frame: Frame) -> NDArray[np.float32]:
    """Mean linear light of each cell: float32 [h, w, 3]."""
    height, width = frame.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    light = np.asarray(cv2.LUT(frame, _LINEAR), dtype=np.float32)
    return np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _check(frames: Sequence[Frame], level: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The cells ``[h, w]`` within the dermoscope's field. Raises FlatFieldRefused for what is no white frame."""
    for number, frame in enumerate(frames, start=1):
        clipped = float((frame >= CLIPPED_LEVEL).any(axis=2).mean())
        if clipped > CLIPPED_SHARE:
            raise FlatFieldRefused(
                f"White frame {number} is over-exposed in {clipped:.0%} of its area: lower the exposure until "
                "the paper is light grey, and take all frames again."
            )
    luminance = level @ LUMINANCE
    bright = float(np.percentile(luminance, 95))
    if bright < DARKEST:
        raise FlatFieldRefused("The white frames are too dark: switch the dermoscope's light on or raise the exposure.")
    field: NDArray[np.bool_] = luminance > OUTSIDE * bright
    colour = np.median(level[field], axis=0)
    if float(colour.max() - colour.min()) > COLOURED * float(colour.max()):
        raise FlatFieldRefused(
            "The frames are not white but coloured: use plain white paper, set the camera's white balance on it, and "
            "take them again."
        )
    return field


def _smooth(level: NDArray[np.float32], field: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The light without paper and dust: a Gaussian over the field; outside it, as at the field's edge."""
    inside = np.repeat(field.astype(np.float32)[..., None], 3, axis=2)
    smooth = np.zeros_like(level)
    missing = np.ones(level.shape, np.bool_)
    for width in max(level.shape[:2]) * np.array([1, 3, 9, 27]) / 24.0:  # the wider ones reach the corners
        weight = cv2.GaussianBlur(inside, (0, 0), width, borderType=cv2.BORDER_REFLECT)
        blurred = cv2.GaussianBlur(level * inside, (0, 0), width, borderType=cv2.BORDER_REFLECT)
        reached = missing & (np.asarray(weight) > 0.2)
        smooth[reached] = (blurred / np.maximum(weight, 1e-6))[reached]
        missing &= ~reached
    smooth[missing] = level[field].mean()
    lifted: NDArray[np.float32] = np.maximum(smooth, np.float32(1e-4))
    return lifted


def _check_texture(level: NDArray[np.float32], smooth: NDArray[np.float32], field: NDArray[np.bool_]) -> None:
    inner = cv2.erode(field.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    off = np.abs((level / smooth - 1.0) @ LUMINANCE)[inner]
    if off.size and float(np.percentile(off, 90)) > TEXTURE:
        raise FlatFieldRefused(
            "The frames show more than plain white paper: fill the whole field with clean, matt white paper, and "
            "turn it between frames."
        )
