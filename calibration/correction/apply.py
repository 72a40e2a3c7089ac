"""Applies a profile to pictures: exact to the last bit or so, and fast enough for every capture."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from calibration.colour import Floats, linear_to_srgb, srgb_to_linear
from calibration.correction.colour_model import ColourModel
from calibration.correction.fixed_point import RGB, FixedPointModel, Gains
from calibration.correction.flatfield import GainMap, centres, shares

Region = tuple[float, float, float, float]
"""Top, left, height and width of a part of a picture, as fractions of its height and width."""

WHOLE: Final[Region] = (0.0, 0.0, 1.0, 1.0)
_TILE: Final = (48, 512)
"""Rows and columns that are corrected together: all that they need on their way stays in the processor's cache."""
_KEPT: Final = 8


def reference_apply(model: ColourModel, rgb: RGB, gain: GainMap | None = None, region: Region = WHOLE) -> Floats:
    """The correction in full precision: uint8 ``[H, W, 3]`` to encoded float64 ``[H, W, 3]``, clipped to 0..1.

    What `Corrector` is measured against; the arguments are those of its methods.
    """
    linear = srgb_to_linear(rgb / 255.0)
    if gain is not None:
        linear = linear * _gains(gain, rgb, region)
    return np.clip(linear_to_srgb(model.apply(linear)), 0.0, 1.0)


def _gains(gain: GainMap, rgb: RGB, region: Region) -> Gains:
    top, left, tall, wide = region
    return gain.at(centres(rgb.shape[0], top, tall), centres(rgb.shape[1], left, wide))


class Corrector:
    """A profile's correction, its tables made once; any number of threads may use it at a time."""

    def __init__(self, model: ColourModel, gain: GainMap | None = None) -> None:
        """Make the tables.

        Args:
            model: the profile's colour model.
            gain: its gain map.
        """
        self.model, self.gain = model, gain
        self._fixed = FixedPointModel(model, None if gain is None else float(gain.gain.max()))
        self._small_gains: dict[tuple[int, int, Region], Gains] = {}

    def full(self, rgb: RGB) -> RGB:
        """Correct a whole picture: uint8 ``[H, W, 3]`` sRGB to a new array of the same kind.

        Raises:
            GainMapMismatch: the gain map was made for pictures of another shape.
            ValueError: not an 8-bit RGB picture.
        """
        _check(rgb)
        height, width = rgb.shape[:2]
        gains = None
        if self.gain is not None:
            self.gain.check(height, width)
            gains = _TileGains(self.gain, height, width)
        corrected = np.empty(rgb.shape, np.uint8)
        for top in range(0, height, _TILE[0]):
            rows = slice(top, min(top + _TILE[0], height))
            for left in range(0, width, _TILE[1]):
                tile = rows, slice(left, min(left + _TILE[1], width))
                corrected[tile] = self._fixed.apply(rgb[tile], gains.of(*tile) if gains else None)
        return corrected

    def small(self, rgb: RGB, region: Region = WHOLE) -> RGB:
        """Correct what the network will see, after the picture was shrunk: uint8 ``[S, S, 3]`` to a new array.

        Args:
            rgb: the whole picture, or a part of it, shrunk.
            region: which part of the whole picture it shows; the gain map needs to know.

        Raises:
            ValueError: not an 8-bit RGB picture.
        """
        _check(rgb)
        return self._fixed.apply(rgb, self._gains_of(rgb, region))

    def fits(self, height: int, width: int) -> bool:
        """Whether whole pictures of this size can be corrected: the gain map's shape decides."""
        return self.gain is None or self.gain.fits(height, width)

    def _gains_of(self, rgb: RGB, region: Region) -> Gains | None:
        if self.gain is None:
            return None
        key = (rgb.shape[0], rgb.shape[1], region)
        gains = self._small_gains.get(key)
        if gains is None:
            gains = _gains(self.gain, rgb, region)
            if len(self._small_gains) >= _KEPT:
                self._small_gains.clear()
            self._small_gains[key] = gains
        return gains


class _TileGains:
    """The gain map at each pixel, tile by tile: the whole would be twelve bytes to each pixel."""

    def __init__(self, gain: GainMap, height: int, width: int) -> None:
        cells = gain.gain.shape[0]
        wide = cv2.resize(gain.gain, (width, cells), interpolation=cv2.INTER_LINEAR)
        self._wide = np.asarray(wide, np.float32).reshape(cells, -1)
        self._shares = shares(centres(height), cells)

    def of(self, rows: slice, columns: slice) -> Gains:
        """Of a tile: float32 ``[rows, columns, 3]``."""
        down = self._shares[rows]
        used = np.flatnonzero(down.any(axis=0))
        cells = slice(int(used[0]), int(used[-1]) + 1)
        gains: Gains = down[:, cells] @ self._wide[cells, 3 * columns.start : 3 * columns.stop]
        return gains.reshape(len(down), -1, 3)


def _check(rgb: RGB) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"a picture is uint8 [H, W, 3] with H and W at least 1, not {rgb.dtype} {list(rgb.shape)}")
