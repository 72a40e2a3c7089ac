"""A colour model in 16-bit linear light: OpenCV's tables, matrices and products on tiles of a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.colour import Floats, linear_to_srgb, srgb_to_linear
from calibration.correction.colour_model import LUMINANCE, ColourModel, Tone

RGB = NDArray[np.uint8]
Light = NDArray[np.uint16]
Gains = NDArray[np.float32]

TOP: Final = 65535
_INDEX: Final = np.arange(TOP + 1, dtype=np.float64)
_ENTRY: Final = srgb_to_linear(np.arange(256) / 255.0)
_NEXT: Final = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""Puts g, b, r in the place of r, g, b."""


def _table(values: Floats) -> Light:
    return np.rint(np.clip(values, 0.0, 1.0) * TOP).astype(np.uint16)


_EXIT: Final = np.rint(np.clip(linear_to_srgb(_INDEX / TOP), 0.0, 1.0) * 255.0).astype(np.uint8)


class FixedPointModel:
    """Tables and matrices of one model, made once; nothing in it changes, so any number of threads may use it.

    Each stage has its own number of units to the linear light of 1, so that nothing is cut off before the end.
    """

    def __init__(self, model: ColourModel, most_gain: float | None) -> None:
        """``most_gain`` is the largest gain that will be given with a tile; None where none will be."""
        brightest = max(1.0, most_gain or 1.0)
        tone = model.tone
        toned_brightest = brightest if tone is None else float(tone.curve(brightest))
        units = TOP / toned_brightest
        entry = _ENTRY / brightest
        self._tone: Light | None = None
        if tone is not None and most_gain is None:
            entry = tone.curve(_ENTRY) / toned_brightest
        elif tone is not None:
            self._tone = _table(tone.curve(_INDEX / TOP * brightest) / toned_brightest)
        self._entry = _table(entry)
        self._lift: _Lift | None = None if tone is None or tone.shoulder == 0.0 else _Lift(tone, units)
        room = 1.0 if self._lift is None else self._lift.room
        matrix = model.coefficients * (TOP / room / units)
        self._mix = _matrix(matrix) if model.kind == "matrix" else _root_polynomial(matrix)

    def apply(self, rgb: RGB, gains: Gains | None) -> RGB:
        """Correct a picture or a tile of one.

        Args:
            rgb: uint8 [H, W, 3].
            gains: float32 [H, W, 3], where a largest gain was announced.

        Returns:
            A new array, uint8 [H, W, 3]; what is outside sRGB is clipped.
        """
        light = np.asarray(cv2.LUT(np.ascontiguousarray(rgb), self._entry), np.uint16)
        if gains is not None:
            light = np.asarray(cv2.multiply(light, gains, dtype=cv2.CV_16U), np.uint16)
        if self._tone is not None:
            light = np.asarray(cv2.LUT(light, self._tone), np.uint16)
        mixed = self._mix(light)
        if self._lift is not None:
            mixed = self._lift.apply(light, mixed)
        return np.asarray(cv2.LUT(mixed, _EXIT), np.uint8)


class _Lift:
    """`Tone.lift`: each pixel times a factor of its luminance."""

    def __init__(self, tone: Tone, units: float) -> None:
        factors = tone.lift(_INDEX / TOP)
        most, least = float(factors.max()), float(factors.min())
        self.room = max(1.0, 1.0 / least)
        """What a channel may be before the factor, so that it is 1 after it."""
        self._factor = _table(factors / most)
        self._luminance = LUMINANCE[None] * (TOP / units)
        self._scale = most * self.room / TOP

    def apply(self, light: Light, mixed: Light) -> Light:
        luminance = np.asarray(cv2.transform(light, self._luminance), np.uint16)
        factor = cv2.cvtColor(cv2.LUT(luminance, self._factor), cv2.COLOR_GRAY2RGB)
        return np.asarray(cv2.multiply(mixed, factor, scale=self._scale), np.uint16)


def _matrix(coefficients: Floats) -> Callable[[Light], Light]:
    matrix = np.ascontiguousarray(coefficients.T)
    return lambda light: np.asarray(cv2.transform(light, matrix), np.uint16)


def _root_polynomial(coefficients: Floats) -> Callable[[Light], Light]:
    """In float32, since parts of the sum may be negative; sqrt(a u) sqrt(b u) = u sqrt(ab) has the light's units."""
    straight, rooted = np.ascontiguousarray(coefficients[:3].T), np.ascontiguousarray(coefficients[3:].T)
    root = np.sqrt(_INDEX).astype(np.float32)

    def mix(light: Light) -> Light:
        roots = cv2.LUT(light, root)
        products = cv2.multiply(roots, cv2.transform(roots, _NEXT))  # rg, gb, br
        first = cv2.transform(light.astype(np.float32), straight)
        return np.asarray(cv2.add(first, cv2.transform(products, rooted), dtype=cv2.CV_16U), np.uint16)

    return mix
