"""The colour model: from a camera's linear light to sRGB's, by a matrix or root polynomial, after a tone curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from calibration.colour import Floats

Kind = Literal["matrix", "root_polynomial_2"]

TERMS: Final[Mapping[str, int]] = {"matrix": 3, "root_polynomial_2": 6}
LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722])
STEEPEST_SHOULDER: Final = 0.8
"""The highlights are raised at most five times."""
_GREY: Final = 0.18
_STEP: Final = 1e-4


@dataclass(frozen=True)
class Tone:
    """A camera's tone curve, undone: the measured grey ramp where it is not sRGB's.

    Between ``floor`` and 1 the curve has the exponent ``at_white`` at 1, ``at_floor`` at ``floor``, and one that moves
    evenly in ``log(value)`` between; below the floor it is a straight line to 0. With both exponents above 0 it rises
    everywhere. Then each pixel is divided by ``1 - shoulder x luminance``, which raises the highlights that the camera
    held back without changing their hue.
    """

    at_white: float
    at_floor: float
    shoulder: float
    floor: float
    """Linear light, 0..1, of the darkest that was measured."""

    def __post_init__(self) -> None:
        sound = min(self.at_white, self.at_floor, self.floor) > 0.0 and self.floor < 1.0
        if not sound or not abs(self.shoulder) <= STEEPEST_SHOULDER:
            raise ValueError(f"{self} is no tone curve: it does not rise everywhere")

    def curve(self, linear: ArrayLike) -> Floats:
        """Each channel through the curve: ``[...]`` to ``[...]``, linear light 0..1; what is below 0 becomes 0."""
        value = np.maximum(np.asarray(linear, dtype=np.float64), 0.0)
        bottom = math.log(self.floor)
        bend = (self.at_floor - self.at_white) / (2.0 * bottom)
        log = np.log(np.maximum(value, self.floor))
        lifted = np.exp(log * (self.at_white + bend * log))
        curved: Floats = np.where(value < self.floor, value / self.floor * lifted, lifted)
        return curved

    def lift(self, luminance: ArrayLike) -> Floats:
        """The factor of a pixel whose luminance, after the curve, is ``luminance``."""
        factor: Floats = 1.0 / (1.0 - self.shoulder * np.clip(np.asarray(luminance, np.float64), 0.0, 1.0))
        return factor


@dataclass(frozen=True, eq=False)
class ColourModel:
    """``linear sRGB = features(tone(linear camera)) @ coefficients``, with the matrix's features r, g, b.

    The root polynomial's are r, g, b, sqrt(rg), sqrt(gb), sqrt(rb) (Finlayson, Mackiewicz, Hurlbert, *Color correction
    using root-polynomial regression*, IEEE TIP 24(5), 2015): like the matrix's they double when the light doubles.
    """

    kind: Kind
    coefficients: Floats
    """float64 [3,3] for the matrix, [6,3] for the root polynomial."""
    tone: Tone | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"the colour model {self.kind!r} is not known; there are {', '.join(get_args(Kind))}")
        terms = TERMS[self.kind]
        values = np.array(self.coefficients, dtype=np.float64)
        if values.shape != (terms, 3) or not np.isfinite(values).all():
            raise ValueError(f"a colour model of kind {self.kind} has {terms} x 3 finite coefficients")
        values.setflags(write=False)
        object.__setattr__(self, "coefficients", values)

    def apply(self, linear: ArrayLike) -> Floats:
        """Correct linear light ``[..., 3]`` (RGB, 0..1, flat-field gain applied); not clipped."""
        value = np.asarray(linear, dtype=np.float64)
        lift: Floats | float = 1.0
        if self.tone is not None:
            value = self.tone.curve(value)
            lift = self.tone.lift(value @ LUMINANCE)[..., None]
        corrected: Floats = features(value, self.kind) @ self.coefficients * lift
        return corrected

    def slope(self, level: float = _GREY) -> Floats:
        """The 3x3 matrix ``d out / d in`` at a grey of linear light ``level``: its gains and its condition count."""
        at = np.full(3, level)
        steps = np.eye(3) * _STEP * level
        slope: Floats = ((self.apply(at + steps) - self.apply(at - steps)) / (2.0 * _STEP * level)).T
        return slope

    def as_plain(self) -> dict[str, Any]:
        """As plain JSON values; `from_plain` takes it back without loss."""
        plain: dict[str, Any] = {"kind": self.kind, "coefficients": self.coefficients.tolist()}
        if self.tone is not None:
            tone = self.tone
            plain["tone"] = {
                "at_white": tone.at_white,
                "at_floor": tone.at_floor,
                "shoulder": tone.shoulder,
                "floor": tone.floor,
            }
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ColourModel:
        """The model of `as_plain`.

        Raises:
            ValueError: not such a document, or values that no camera has.
        """
        try:
            tone = Tone(**{key: float(value) for key, value in plain["tone"].items()}) if plain.get("tone") else None
            return cls(plain["kind"], np.array(plain["coefficients"], dtype=np.float64), tone)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no colour model: {error}") from error


def features(linear: Floats, kind: Kind) -> Floats:
    """What a model multiplies: ``[..., 3]`` to ``[..., terms]``; roots of negative products count as 0."""
    if kind == "matrix":
        return linear
    red, green, blue = (np.maximum(linear[..., channel], 0.0) for channel in range(3))
    roots = np.stack([np.sqrt(red * green), np.sqrt(green * blue), np.sqrt(red * blue)], axis=-1)
    return np.concatenate([linear, roots], axis=-1)


IDENTITY: Final = ColourModel("matrix", np.eye(3))
"""Changes nothing: the colours as the camera gave them."""
