"""Watches a dermoscope's colours between two charts, from its captures alone: the light's colour and the skin's.

Pure: observations in, a state out; whoever calls keeps the state. Single captures say little (patients and lesions
differ), so the medians of two windows are compared: the one after commissioning, and the latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.colour import Floats, delta_e_2000, linear_to_lab, srgb_to_linear
from calibration.correction.colour_model import LUMINANCE

RGB = NDArray[np.uint8]

NORM: Final = 6.0
"""The Minkowski norm of shades of gray (Finlayson, Trezzi, *Shades of gray and colour constancy*, CIC 12, 2004)."""
LOOKED_AT: Final = 64
"""Pixels of the longer side that are looked at."""
RING: Final = 0.75
"""Distance from the centre, in half sides, from which the border's skin is taken: lesions lie inside."""
OUTSIDE: Final = 0.03
"""Linear light below which a pixel is the black round the field, or hair."""
GLARE: Final = 0.95
LEAST_SHARE: Final = 0.05
"""Of all pixels, that must be skin at the border for an observation."""
WINDOW: Final = 100
"""Captures in a window: of collections from several clinics, two windows of 100 differ by less than 2.1 (light) and
2.8 (skin) in 99 of 100 draws."""
LIMIT: Final = 3.0
"""CIEDE2000 between the windows' medians from which colours have drifted: an engineering choice."""
CLEAR: Final = 2.0
"""Below this they have not, or no longer."""
NOISE: Final = 3.0
"""Standard errors of the medians' difference that a drift must exceed, too: some clinics see more kinds of skin.
With 2.5 two of ten streams of 1,500 captures from many cameras raised a false alarm, with 3 none."""
_MEDIAN_ERROR: Final = 1.2533 * 1.4826
"""From the median absolute deviation to the standard error of a median, times the root of the number."""
_GREY: Final = 0.4
_LINEAR: Final = srgb_to_linear(np.arange(256) / 255.0)


@dataclass(frozen=True)
class Observation:
    """What one capture says of the colours."""

    light: tuple[float, float, float]
    """Lab D50 of a grey of 40 % in the estimated light; its a and b are the light's colour."""
    skin: tuple[float, float, float]
    """Lab D50 of the skin at the border, the median."""


def observe(rgb: RGB) -> Observation | None:
    """Look at one capture; None where it shows no field or no skin at its border.

    Args:
        rgb: uint8 [H, W, 3] sRGB, as the camera gave it or corrected, but always the same; small is enough.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, LOOKED_AT / max(height, width))
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = rgb.shape[:2]
    light = _LINEAR[rgb]
    seen = (light @ LUMINANCE > OUTSIDE) & (light.max(axis=2) < GLARE)
    down, across = (np.abs(2.0 * (np.arange(side) + 0.5) / side - 1.0) for side in (height, width))
    ring = seen & (np.maximum(down[:, None], across[None]) > RING)
    if ring.sum() < LEAST_SHARE * ring.size:
        return None
    inside = light[seen]
    cubed = inside * inside * inside
    source = (cubed * cubed).mean(axis=0) ** (1.0 / NORM)
    skin = np.median(linear_to_lab(light[ring]), axis=0)
    return Observation(_triple(linear_to_lab(source * (_GREY / float(source @ LUMINANCE)))), _triple(skin))


class State(str, Enum):
    """What the watch says."""

    COMMISSIONING = "commissioning"
    """Too few captures yet to tell."""
    STEADY = "steady"
    DRIFTED = "drifted"


@dataclass(frozen=True)
class Shift:
    """How far the latest window is from the commissioning window, CIEDE2000 between medians, and the limits for it."""

    light: float
    skin: float
    light_limit: float
    skin_limit: float

    @property
    def beyond(self) -> bool:
        """Whether either is beyond its limit."""
        return self.light >= self.light_limit or self.skin >= self.skin_limit

    @property
    def sentence(self) -> str:
        """For the technician."""
        return (
            f"The colours have drifted since commissioning (light {self.light:.1f}, skin {self.skin:.1f}, CIEDE2000 "
            f"over {WINDOW} captures): clean the lens, check the lamp, then verify with the chart (dermascan calibrate "
            "verify)."
        )


@dataclass(frozen=True)
class Watch:
    """One dermoscope under one profile; immutable: `after` gives the next. Compare ``state`` before and after."""

    profile_id: str | None = None
    """The profile that the captures were corrected with or belong to; another one needs another watch."""
    commissioning: tuple[Observation, ...] = ()
    latest: tuple[Observation, ...] = ()
    state: State = State.COMMISSIONING

    def of_profile(self, profile_id: str | None) -> Watch:
        """This watch, or a fresh one where another profile was put into use."""
        return self if profile_id == self.profile_id else Watch(profile_id)

    def after(self, observation: Observation) -> Watch:
        """The watch after one more capture."""
        if len(self.commissioning) < WINDOW:
            return replace(self, commissioning=(*self.commissioning, observation))
        moved = replace(self, latest=(*self.latest, observation)[-WINDOW:])
        shift = moved.shift()
        if shift is None:
            return moved
        if shift.beyond:
            return replace(moved, state=State.DRIFTED)
        steady = self.state is not State.DRIFTED or max(shift.light, shift.skin) < CLEAR
        return replace(moved, state=State.STEADY if steady else State.DRIFTED)

    def shift(self) -> Shift | None:
        """How far the colours have moved; None before both windows are full."""
        if len(self.commissioning) < WINDOW or len(self.latest) < WINDOW:
            return None
        light, light_noise = _difference([seen.light for seen in self.commissioning], [s.light for s in self.latest])
        skin, skin_noise = _difference([seen.skin for seen in self.commissioning], [s.skin for s in self.latest])
        return Shift(light, skin, max(LIMIT, NOISE * light_noise), max(LIMIT, NOISE * skin_noise))

    def as_plain(self) -> dict[str, Any]:
        """As plain JSON values."""

        def rows(seen: Iterable[Observation]) -> list[list[float]]:
            return [[*one.light, *one.skin] for one in seen]

        return {
            "profile_id": self.profile_id,
            "state": self.state.value,
            "commissioning": rows(self.commissioning),
            "latest": rows(self.latest),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Watch:
        """The watch of `as_plain`.

        Raises:
            ValueError: not such a document; begin anew.
        """
        try:
            profile_id = plain["profile_id"]
            commissioning, latest = (_observations(plain[key]) for key in ("commissioning", "latest"))
            state = State(plain["state"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no watch of a dermoscope's colours: {error}") from error
        if not (profile_id is None or isinstance(profile_id, str)) or max(len(commissioning), len(latest)) > WINDOW:
            raise ValueError("no watch of a dermoscope's colours: too many captures, or an id that is none")
        return cls(profile_id, commissioning, latest, state)


def _observations(rows: Any) -> tuple[Observation, ...]:
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 6)
    if not np.isfinite(table).all():
        raise ValueError("a colour is not a number")
    return tuple(Observation(_triple(row[:3]), _triple(row[3:])) for row in table)


def _difference(before: list[tuple[float, float, float]], now: list[tuple[float, float, float]]) -> tuple[float, float]:
    """CIEDE2000 between two windows' medians, and the standard error of it."""
    first, second = np.array(before), np.array(now)
    middles = np.median(first, axis=0), np.median(second, axis=0)
    squared = np.zeros(3)
    for window, middle in zip((first, second), middles, strict=True):
        squared += (_MEDIAN_ERROR * np.median(np.abs(window - middle), axis=0)) ** 2 / len(window)
    noise = delta_e_2000(middles[0], middles[0] + np.sqrt(squared))
    return float(delta_e_2000(*middles)), float(noise)


def _triple(lab: Floats) -> tuple[float, float, float]:
    lightness, a, b = (round(float(value), 3) for value in lab)
    return lightness, a, b
