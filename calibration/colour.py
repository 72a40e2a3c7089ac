"""Colour science in float64: sRGB, XYZ, CIE Lab under D50, Bradford adaptation and the CIEDE2000 difference.

Every function takes and gives arrays whose last axis is the three components; nothing here clips, so that colours
outside sRGB keep their distance from the reference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

D65: Final = np.array([0.3127 / 0.3290, 1.0, (1.0 - 0.3127 - 0.3290) / 0.3290])
"""White of sRGB (IEC 61966-2-1: x 0.3127, y 0.3290) as XYZ with Y = 1."""
D50: Final = np.array([0.3457 / 0.3585, 1.0, (1.0 - 0.3457 - 0.3585) / 0.3585])
"""White of the chart's references (CIE 15: x 0.3457, y 0.3585) as XYZ with Y = 1."""
BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""XYZ to the sharpened cone responses of the Bradford transform (Lam 1985; ICC.1:2022, annex E)."""

_PRIMARIES: Final = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
_DELTA: Final = 6.0 / 29.0
_KNEE, _SLOPE, _OFFSET, _GAMMA = 0.0031308, 12.92, 0.055, 2.4


def srgb_to_linear(encoded: ArrayLike) -> Floats:
    """Encoded sRGB (0..1) to linear light (0..1), IEC 61966-2-1; below zero and above one by the same curve, odd."""
    value = np.asarray(encoded, dtype=np.float64)
    size = np.abs(value)
    curved = ((size + _OFFSET) / (1.0 + _OFFSET)) ** _GAMMA
    linear: Floats = np.sign(value) * np.where(size <= _KNEE * _SLOPE, size / _SLOPE, curved)
    return linear


def linear_to_srgb(linear: ArrayLike) -> Floats:
    """Linear light (0..1) to encoded sRGB (0..1), the inverse of `srgb_to_linear`; not clipped."""
    value = np.asarray(linear, dtype=np.float64)
    size = np.abs(value)
    curved = (1.0 + _OFFSET) * size ** (1.0 / _GAMMA) - _OFFSET
    encoded: Floats = np.sign(value) * np.where(size <= _KNEE, size * _SLOPE, curved)
    return encoded


def adaptation(source: Floats, target: Floats) -> Floats:
    """The Bradford matrix ``[3, 3]`` that takes XYZ seen under white ``source`` to XYZ under white ``target``."""
    gains = (BRADFORD @ target) / (BRADFORD @ source)
    matrix: Floats = np.linalg.solve(BRADFORD, gains[:, None] * BRADFORD)
    return matrix


def _rgb_to_xyz() -> Floats:
    """Primaries scaled so that RGB (1, 1, 1) is the white (SMPTE RP 177)."""
    columns = np.array([[x / y, 1.0, (1.0 - x - y) / y] for x, y in _PRIMARIES]).T
    matrix: Floats = columns * np.linalg.solve(columns, D65)
    return matrix


RGB_TO_XYZ_D65: Final = _rgb_to_xyz()
"""Linear sRGB to XYZ under D65, both with white at 1: ``xyz = rgb @ RGB_TO_XYZ_D65.T``."""
RGB_TO_XYZ_D50: Final = adaptation(D65, D50) @ RGB_TO_XYZ_D65
"""Linear sRGB to XYZ adapted to D50, as an ICC profile's colorants are."""
_XYZ_D50_TO_RGB: Final[Floats] = np.asarray(np.linalg.inv(RGB_TO_XYZ_D50), dtype=np.float64)


def xyz_to_lab(xyz: ArrayLike, white: Floats = D50) -> Floats:
    """XYZ (white at Y = 1) to CIE Lab (L 0..100), CIE 15:2018; defined for negative values, too."""
    ratio = np.asarray(xyz, dtype=np.float64) / white
    # The straight part holds below delta cubed, negative values included.
    f: Floats = np.where(ratio > _DELTA**3, np.cbrt(ratio), ratio / (3.0 * _DELTA**2) + 4.0 / 29.0)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    lab: Floats = np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)
    return lab


def lab_to_xyz(lab: ArrayLike, white: Floats = D50) -> Floats:
    """CIE Lab to XYZ (white at Y = 1), the inverse of `xyz_to_lab`."""
    value = np.asarray(lab, dtype=np.float64)
    middle = (value[..., 0] + 16.0) / 116.0
    f = np.stack([middle + value[..., 1] / 500.0, middle, middle - value[..., 2] / 200.0], axis=-1)
    ratio = np.where(f > _DELTA, f**3, 3.0 * _DELTA**2 * (f - 4.0 / 29.0))
    xyz: Floats = ratio * white
    return xyz


def linear_to_lab(linear: ArrayLike) -> Floats:
    """Linear sRGB (0..1, not clipped) to CIE Lab under D50."""
    return xyz_to_lab(np.asarray(linear, dtype=np.float64) @ RGB_TO_XYZ_D50.T)


def lab_to_linear(lab: ArrayLike) -> Floats:
    """CIE Lab under D50 to linear sRGB; colours outside sRGB come out below 0 or above 1."""
    linear: Floats = lab_to_xyz(lab) @ _XYZ_D50_TO_RGB.T
    return linear


def srgb_to_lab(rgb: ArrayLike) -> Floats:
    """Encoded sRGB to CIE Lab under D50: uint8 0..255, or floating point 0..1."""
    value = np.asarray(rgb)
    encoded = value / 255.0 if value.dtype == np.uint8 else value
    return linear_to_lab(srgb_to_linear(encoded))


def chroma(lab: ArrayLike) -> Floats:
    """The distance of each colour from the grey axis: ``[..., 3]`` Lab to ``[...]``."""
    value = np.asarray(lab, dtype=np.float64)
    distance: Floats = np.hypot(value[..., 1], value[..., 2])
    return distance


def delta_e_2000(lab1: ArrayLike, lab2: ArrayLike) -> Floats:
    """The CIEDE2000 colour difference with kL = kC = kH = 1: ``[..., 3]`` and ``[..., 3]`` to ``[...]``.

    ISO/CIE 11664-6:2014, with the hue cases spelt out as in Sharma, Wu, Dalal, *The CIEDE2000 color-difference
    formula* (2005), whose 34 pairs it meets.
    """
    first, second = np.broadcast_arrays(np.asarray(lab1, dtype=np.float64), np.asarray(lab2, dtype=np.float64))
    l1, a1, b1 = first[..., 0], first[..., 1], first[..., 2]
    l2, a2, b2 = second[..., 0], second[..., 1], second[..., 2]
    stretch = 1.5 - 0.5 * _seventh((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2.0)
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1 = np.degrees(np.arctan2(b1, stretch * a1)) % 360.0
    h2 = np.degrees(np.arctan2(b2, stretch * a2)) % 360.0
    coloured = c1 * c2 != 0.0

    turn = h2 - h1
    turn = np.where(turn > 180.0, turn - 360.0, np.where(turn < -180.0, turn + 360.0, turn))
    d_lightness, d_chroma = l2 - l1, c2 - c1
    d_hue = 2.0 * np.sqrt(c1 * c2) * np.sin(np.radians(np.where(coloured, turn, 0.0)) / 2.0)

    lightness, c = (l1 + l2) / 2.0, (c1 + c2) / 2.0
    h = h1 + h2
    wrapped = np.where(h < 360.0, h + 360.0, h - 360.0)
    h = np.where(coloured, np.where(np.abs(h1 - h2) > 180.0, wrapped, h) / 2.0, h)
    weight = (
        1.0
        - 0.17 * np.cos(np.radians(h - 30.0))
        + 0.24 * np.cos(np.radians(2.0 * h))
        + 0.32 * np.cos(np.radians(3.0 * h + 6.0))
        - 0.20 * np.cos(np.radians(4.0 * h - 63.0))
    )
    s_lightness = 1.0 + 0.015 * (lightness - 50.0) ** 2 / np.sqrt(20.0 + (lightness - 50.0) ** 2)
    s_chroma, s_hue = 1.0 + 0.045 * c, 1.0 + 0.015 * c * weight
    rotation = -np.sin(np.radians(60.0 * np.exp(-(((h - 275.0) / 25.0) ** 2)))) * 2.0 * _seventh(c)
    along, round_ = d_chroma / s_chroma, d_hue / s_hue
    squared = (d_lightness / s_lightness) ** 2 + along**2 + round_**2 + rotation * along * round_
    difference: Floats = np.sqrt(np.maximum(squared, 0.0))
    return difference


def _seventh(c: Floats) -> Floats:
    power = c**7
    root: Floats = np.sqrt(power / (power + 25.0**7))
    return root
