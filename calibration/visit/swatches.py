"""Colours of the chart as a screen or a sheet of paper shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from calibration.colour import lab_to_linear, linear_to_srgb

GAMUT_SLACK: Final = 0.002


def hex_of_lab(lab: Sequence[float]) -> str:
    """``#rrggbb`` (sRGB) of a colour in Lab D50; what sRGB cannot show is cut to what it can."""
    encoded = np.clip(linear_to_srgb(lab_to_linear(np.asarray(lab, dtype=np.float64))), 0.0, 1.0)
    red, green, blue = (int(value) for value in np.rint(encoded * 255.0))
    return f"#{red:02x}{green:02x}{blue:02x}"


def in_srgb(lab: Sequence[float]) -> bool:
    """Whether sRGB can show a colour; the classic chart's cyan it cannot."""
    linear = lab_to_linear(np.asarray(lab, dtype=np.float64))
    return bool((linear >= -GAMUT_SLACK).all() and (linear <= 1.0 + GAMUT_SLACK).all())
