"""Applies a profile to pictures: exact to the last bit or so, and fast enough for every capture."""

from __future__ import annotations

import threading
from typing import Final

import cv2
import numpy as np

from calibration.colour import Floats, linear_to_srgb, srgb_to_linear
from calibration.colour_model import ColourModel
from calibration.fixed_point import RGB, FixedPointModel, Gains
from calibration.flatfield import GainMap, centres

Region = tuple[float, float, float, float]
"""Top, left, height and width of a part of a picture, as fractions of its height and width."""

WHOLE: Final[Region] = (0.0, 0.0, 1.0, 1.0)
_STRIP_PIXELS: Final = 24_576
"""What a strip needs on its way, some 20 bytes to a pixel, stays in the processor's cache."""
_BLOCK: Final = 16
"""Rows between those that the gain map is looked up for; between them the gains are a straight line."""
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

    def __init__(self, model: ColourModel, gain: GainMap | None = None, *, threads: int = 1) -> None:
        """Make the tables.

        Args:
            model: the profile's colour model.
            gain: its gain map.
            threads: how many work on a full-size picture, the caller's among them.
        """
        self.model, self.gain = model, gain
        self._threads = max(1, threads)
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
            gains = _StripGains(self.gain, height, width)
        corrected = np.empty(rgb.shape, np.uint8)
        rows = max(_BLOCK, _STRIP_PIXELS // width // _BLOCK * _BLOCK)
        starts = range(0, height, rows)

        def work(first: int) -> None:
            for top in starts[first :: self._threads]:
                end = min(top + rows, height)
                self._fixed.apply(rgb[top:end], gains.rows(top, end) if gains else None, corrected[top:end])

        # NumPy and OpenCV give the interpreter free while they work.
        others = [threading.Thread(target=work, args=(k,)) for k in range(1, min(self._threads, len(starts)))]
        for thread in others:
            thread.start()
        work(0)
        for thread in others:
            thread.join()
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
        corrected = np.empty(rgb.shape, np.uint8)
        self._fixed.apply(rgb, self._gains_of(rgb, region), corrected)
        return corrected

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


class _StripGains:
    """The gain map at each pixel, strip by strip: the whole would be twelve bytes to each pixel."""

    def __init__(self, gain: GainMap, height: int, width: int) -> None:
        blocks = -(-height // _BLOCK)
        middles = (np.arange(-1, blocks + 1) + 0.5) * _BLOCK / height
        self._knots = gain.at(middles, centres(gain.gain.shape[1]))
        self._width = width

    def rows(self, top: int, end: int) -> Gains:
        """Of the rows from ``top``, which starts a block, up to ``end``: float32 ``[end - top, W, 3]``."""
        first, last = top // _BLOCK, -(-end // _BLOCK)
        knots = self._knots[first : last + 2]  # one block above and one below, which the interpolation needs
        size = (self._width, len(knots) * _BLOCK)
        wide = np.asarray(cv2.resize(knots, size, interpolation=cv2.INTER_LINEAR), np.float32)
        return wide[_BLOCK : _BLOCK + end - top]


def _check(rgb: RGB) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"a picture is uint8 [H, W, 3] with H and W at least 1, not {rgb.dtype} {list(rgb.shape)}")
