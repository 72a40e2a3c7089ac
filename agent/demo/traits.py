"""What a simulated lesion is like: everything that a seed decides before a pixel is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np


class Look(str, Enum):
    """What the drawn lesion resembles. A drawing, not a ground truth: nobody may measure a classifier on it."""

    NEVUS = "nevus"
    """Fairly round and regular, brown, with a pigment network or globules."""
    ATYPICAL = "atypical"
    """Asymmetric, several browns to black, irregular edge; often a blue-white veil or a pale regression area."""
    KERATOSIS = "keratosis"
    """Sharp edge, matt brown, with pale milia-like dots."""
    VASCULAR = "vascular"
    """Red to purple lagoons, hardly any pigment."""


LOOKS: Final = (Look.NEVUS, Look.ATYPICAL, Look.KERATOSIS, Look.VASCULAR)
LOOK_SHARES: Final = (0.45, 0.35, 0.12, 0.08)
SKIN_TYPES: Final = ("I", "II", "III", "IV", "V", "VI")
SKIN_SHARES: Final = (0.18, 0.34, 0.26, 0.12, 0.07, 0.03)


@dataclass(frozen=True)
class Traits:
    """A simulated picture in words and numbers; lengths are shares of the picture's short side."""

    look: Look
    skin_type: str
    """Fitzpatrick type, ``"I"`` to ``"VI"``."""
    radius: float
    elongation: float
    angle: float
    """Of the long axis, radians."""
    centre: tuple[float, float]
    """Offset from the middle of the picture, x and y."""
    irregularity: float
    edge_softness: float
    pigment: float
    """Optical density of the melanin in the lesion's body, about 0.5 (light brown) to 2 (black)."""
    network: float
    streaks: float
    globules: int
    veil: float
    regression: float
    vessels: int
    hairs: int
    bubbles: int
    ruler: bool
    rim: float | None
    """Radius of the dermoscope's black rim, or None where the picture is filled."""
    vignette: float
    redness: float
    white_balance: tuple[float, float, float]
    exposure: float
    noise: float
    """Standard deviation of the sensor's noise at mid grey, in 0..255."""


def traits_of(seed: int) -> Traits:
    """The traits of a seed: the same at every size, and independent of how they are drawn."""
    rng = np.random.default_rng([seed, 0xDE2A])
    look = LOOKS[int(rng.choice(len(LOOKS), p=LOOK_SHARES))]
    skin_type = SKIN_TYPES[int(rng.choice(len(SKIN_TYPES), p=SKIN_SHARES))]
    chance, between = rng.random, rng.uniform
    nevus, atypical = look is Look.NEVUS, look is Look.ATYPICAL
    keratosis, vascular = look is Look.KERATOSIS, look is Look.VASCULAR
    radius = between(0.17, 0.32) if atypical else between(0.11, 0.25)
    rim = between(0.5, 0.8) if chance() < 0.4 else None
    return Traits(
        look=look,
        skin_type=skin_type,
        radius=radius if rim is None else min(radius, 0.55 * rim),
        elongation=between(1.0, 1.6) if atypical else between(1.0, 1.35),
        angle=between(0, np.pi),
        centre=(between(-0.05, 0.05), between(-0.04, 0.04)),
        irregularity=between(0.14, 0.27) if atypical else between(0.04, 0.1),
        edge_softness=between(0.12, 0.45) if not keratosis else between(0.05, 0.1),
        pigment=between(0.95, 1.7) if atypical else between(0.55, 1.15) if nevus else between(0.35, 0.7),
        network=between(0.35, 0.9) if (nevus or atypical) and chance() < 0.75 else 0.0,
        streaks=between(0.3, 0.9) if atypical and chance() < 0.55 else between(0.0, 0.3),
        globules=int(between(20, 90)) if not vascular and chance() < 0.55 else int(between(0, 8)),
        veil=between(0.3, 0.75) if atypical and chance() < 0.55 else 0.0,
        regression=between(0.3, 0.7) if atypical and chance() < 0.45 else 0.0,
        vessels=int(between(6, 18)) if vascular or chance() < 0.2 else 0,
        hairs=int(between(4, 26)) if chance() < 0.7 else int(between(0, 4)),
        bubbles=int(between(8, 45)) if chance() < 0.5 else 0,
        ruler=bool(chance() < 0.45),
        rim=rim,
        vignette=between(0.05, 0.3),
        redness=between(0.02, 0.13),
        white_balance=(between(0.97, 1.05), between(0.98, 1.02), between(0.94, 1.08)),
        exposure=between(0.94, 1.1),
        noise=between(1.2, 3.2),
    )
