"""Why no chart was found, in one sentence that tells the technician what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

SMALLEST_PICTURE: Final = 120
DARK: Final = 40
"""Brightest two per cent of a picture, 8-bit: below this nothing can be told apart."""
GREY: Final = 10
"""Difference of a pixel's channels, 8-bit, that hardly any pixel of a picture without colours reaches."""
SOFT: Final = 22
"""Steepest two per cent of the edges of a picture of 900 pixels, 8-bit levels within three pixels."""
BURNT_OUT: Final = 0.3
"""Share of a picture at the top of all three channels."""

_DARK: Final = "No chart found, the picture is too dark: switch the dermoscope's light on or raise the exposure."
_BRIGHT: Final = "No chart found, the picture is over-exposed: lower the exposure until white is no longer burnt out."
_GREY: Final = "No chart found, the picture has no colours: set the camera to colour and take it again."
_SKIN: Final = "No chart found, this looks like a capture of skin: put the colour chart under the dermoscope instead."
_BLURRED: Final = "No chart found, the picture shows no sharp edge: put the chart into view and focus on it."
_NO_TILE: Final = "No part of the chart found: show at least 2 x 3 whole patches, evenly lit and in focus."
_NOTHING: Final = (
    "No chart found: lay the whole chart flat into the picture, evenly lit and in focus, or give its corners with "
    "--corners."
)


class ChartNotFound(ValueError):
    """No chart that could be used; the message is one sentence for the technician, with what to do next."""


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a sentence: ``red, green and 3 more``."""
    shown = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def explain(small: Picture, *, tile: bool) -> str:
    """What a picture without a chart looks like, for the technician.

    Args:
        small: uint8 [H,W,3] RGB, about 900 pixels on the longer side.
        tile: part of a chart was looked for.
    """
    brightest = small.max(axis=2)
    smooth = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), dtype=np.uint8)
    colour = smooth.max(axis=2).astype(np.int16) - smooth.min(axis=2)
    edges = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2)
    causes = (
        (np.percentile(brightest, 98) < DARK, _DARK),
        (float((small >= 253).all(axis=2).mean()) > BURNT_OUT, _BRIGHT),
        (np.percentile(colour, 99.9) < GREY, _GREY),
        (_skin_like(smooth), _SKIN),
        (np.percentile(edges, 98) < SOFT, _BLURRED),
        (tile, _NO_TILE),
    )
    return next((sentence for holds, sentence in causes if holds), _NOTHING)


def _skin_like(rgb: Picture) -> bool:
    """Most of the picture has a hue between red and yellow, and nothing in it is green or blue."""
    hue, saturation, _ = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    coloured = saturation > 25
    warm = (hue < 25) | (hue > 160)
    cold = coloured & (hue > 30) & (hue < 150)
    return bool((coloured & warm).mean() > 0.4 and cold.mean() < 0.02)
