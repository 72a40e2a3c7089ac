"""Draws skin and lesion: pigments laid over a skin colour, lit through them (Beer-Lambert), in 0..1 RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.demo.fields import Field, Random, Shape, brushed, cell_walls, clouds, dots, smoothstep
from agent.demo.traits import Look, Traits

SKIN_COLOURS: Final = {
    "I": (0.930, 0.865, 0.850),
    "II": (0.910, 0.815, 0.780),
    "III": (0.865, 0.735, 0.665),
    "IV": (0.735, 0.560, 0.465),
    "V": (0.560, 0.400, 0.315),
    "VI": (0.400, 0.285, 0.235),
}
"""sRGB of lit skin in 0..1 by Fitzpatrick type."""
MELANIN: Final = (0.62, 1.18, 1.75)
"""Absorption of melanin relative to its amount in R, G, B: brown first, then black."""
BLOOD: Final = (0.22, 1.20, 0.98)
VEIL_COLOUR: Final = (0.42, 0.46, 0.58)
"""Blue-grey: melanin deep in the dermis, seen through scattering tissue."""


@dataclass(frozen=True)
class Ground:
    """The lesion's outline on the picture's grid, each ``[H, W]`` float32."""

    depth: Field
    """1 at the centre, 0 on the outline, negative outside."""
    angle: Field
    body: Field
    """0 outside to 1 inside, with the softness of the edge."""
    x: Field
    y: Field
    """Place relative to the lesion's centre, as a share of the short side."""

    @property
    def shape(self) -> Shape:
        """Height and width."""
        height, width = self.body.shape
        return height, width


def outline(rng: Random, traits: Traits, shape: Shape) -> Ground:
    """Lay the lesion's irregular outline: an ellipse whose radius wanders at low angular frequencies."""
    height, width = shape
    short = min(shape)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x = (x - width / 2) / short - np.float32(traits.centre[0])
    y = (y - height / 2) / short - np.float32(traits.centre[1])
    wander = 0.05 * traits.radius * (1 + 4 * traits.irregularity)
    warped_x = x + wander * clouds(rng, shape, 6, 3)
    warped_y = y + wander * clouds(rng, shape, 6, 3)
    cos, sin = np.float32(np.cos(traits.angle)), np.float32(np.sin(traits.angle))
    stretch = np.float32(traits.elongation**0.5)
    along, across = (warped_x * cos + warped_y * sin) / stretch, (warped_y * cos - warped_x * sin) * stretch
    radius, angle = cv2.cartToPolar(along, across)
    turns = np.linspace(0, 2 * np.pi, 1024, dtype=np.float32)
    wave = np.zeros_like(turns)
    for order in range(2, 14):
        wave += rng.normal(0, 1.3 * traits.irregularity / order**1.15) * np.cos(
            order * turns + rng.uniform(0, 2 * np.pi)
        )
    reach = traits.radius * np.clip(1 + wave, 0.5, 1.7)
    reach = reach[np.minimum((angle * (1023 / (2 * np.pi))).astype(np.int32), 1023)]
    depth = np.asarray(1 - radius / reach, np.float32)
    # Abrupt on one side, fading on the other, as most real ones are.
    softness = traits.edge_softness * (1 + 0.7 * np.cos(angle - np.float32(rng.uniform(0, 2 * np.pi))))
    ragged = depth + (0.04 + 0.1 * traits.irregularity) * clouds(rng, shape, 22, 2)
    body = smoothstep(np.asarray(ragged / softness, np.float32), -0.6, 1.0)
    return Ground(depth, np.asarray(angle, np.float32), body, x, y)


def draw_tissue(rng: Random, traits: Traits, shape: Shape) -> NDArray[np.float32]:
    """Skin with its lesion, ``[H, W, 3]`` float32 RGB, nominally 0..1, evenly lit and without anything on top."""
    ground = outline(rng, traits, shape)
    melanin, blood, gloss = _skin(rng, traits, shape)
    melanin += _pigment(rng, traits, ground)
    blood += _blood(rng, traits, ground)
    skin = SKIN_COLOURS[traits.skin_type]
    picture = np.empty((*shape, 3), np.float32)
    for channel in range(3):
        density = melanin * np.float32(MELANIN[channel]) + blood * np.float32(BLOOD[channel])
        picture[..., channel] = np.float32(skin[channel]) * cv2.exp(-density) + gloss
    _lay_over(rng, traits, ground, picture)
    return picture


def _skin(rng: Random, traits: Traits, shape: Shape) -> tuple[Field, Field, Field]:
    """Melanin, blood and surface gloss of the skin around the lesion."""
    height, width = shape
    short = min(shape)
    angle = rng.uniform(0, np.pi)
    lines = brushed(rng, shape, short / 160, short / 14, angle)
    lines += 0.7 * brushed(rng, shape, short / 120, short / 18, angle + rng.uniform(0.9, 1.4))
    furrows = np.exp(-((cell_walls(rng, shape, short / 26, 0.6) / (short / 420)) ** 2))
    furrows = np.asarray(cv2.GaussianBlur(furrows, (0, 0), short / 700), np.float32) * smoothstep(
        clouds(rng, shape, 3, 2), -0.5, 1.5
    )
    pores = clouds(rng, shape, 110, 2, 0.8)
    melanin = 0.03 + 0.018 * clouds(rng, shape, 3, 4) + 0.006 * lines + 0.006 * pores + 0.035 * furrows
    freckles = int(rng.integers(0, 14)) if rng.random() < 0.6 else 0
    if freckles:
        size = rng.uniform(0.004, 0.016, freckles) * short
        spots = np.stack([rng.uniform(0, width, freckles), rng.uniform(0, height, freckles), size], 1)
        cover = dots(shape, spots, short / 170)
        melanin += 0.14 * cover * (1 + 0.3 * clouds(rng, shape, 60, 2))
    flush = smoothstep(clouds(rng, shape, 2.2, 6, 0.62), -2.0, 3.0)
    blood = traits.redness * (0.3 + 1.1 * flush) + 0.012 * clouds(rng, shape, 40, 2)
    gloss = 0.008 * lines + 0.02 * smoothstep(clouds(rng, shape, 14, 4, 0.7), 1.1, 2.6)
    return np.asarray(melanin, np.float32), np.asarray(blood, np.float32), np.asarray(gloss, np.float32)


def _pigment(rng: Random, traits: Traits, ground: Ground) -> Field:
    """The lesion's melanin: body, dark areas, network, streaks, globules, pale regression."""
    shape = ground.shape
    short = min(shape)
    patches = clouds(rng, shape, 5, 4, 0.6)
    contrast = 0.55 if traits.look is Look.ATYPICAL else 0.28
    rise = np.clip(0.62 + 0.55 * ground.depth, 0.3, 1.3)
    body = traits.pigment * rise * np.clip(1 + contrast * patches, 0.25, 2.2)
    body *= 1 + 0.13 * clouds(rng, shape, 45, 3, 0.8)
    if traits.look is Look.VASCULAR:
        body *= 0.25
    if traits.network:
        body += _network(rng, traits, ground, short)
    if traits.streaks:
        strength = 0.32 * traits.streaks * smoothstep(-ground.depth, -0.8, -0.1)
        body *= np.clip(1 + strength * _streaks(rng, ground), 0.35, 1.9)
    if traits.regression:
        pale = smoothstep(clouds(rng, shape, 4, 2), 0.3, 1.4) * smoothstep(ground.depth, 0.05, 0.35)
        body *= 1 - traits.regression * pale
    body *= ground.body
    # A faint halo of pigment beyond the edge.
    body += 0.10 * traits.pigment * smoothstep(ground.depth, -0.45, 0.1)
    if traits.globules:
        body += _globules(rng, traits, ground, short)
    return np.asarray(body, np.float32)


def _network(rng: Random, traits: Traits, ground: Ground, short: int) -> Field:
    """Pigment network: brown lines around pale holes, thinning out towards the edge."""
    shape = ground.shape
    cell = short * rng.uniform(0.016, 0.024)
    walls = cell_walls(rng, shape, cell, 0.45)
    lines = cv2.GaussianBlur(np.exp(-((walls / (cell * 0.17)) ** 2)), (0, 0), max(0.7, cell * 0.085))
    where = smoothstep(clouds(rng, shape, 4, 3), -1.0, 0.9)
    strength = traits.network * (0.35 + 0.5 * traits.pigment)
    return np.asarray(strength * where * (1.35 * lines - 0.3) * (0.85 + 0.3 * clouds(rng, shape, 30, 2)), np.float32)


def _streaks(rng: Random, ground: Ground) -> Field:
    """Noise that varies fast around the lesion and slowly outwards: radial streaks."""
    grid = rng.standard_normal((12, 260), dtype=np.float32)
    sheet = cv2.resize(np.hstack([grid, grid[:, :1]]), (2088, 96), interpolation=cv2.INTER_CUBIC)
    radius, angle = cv2.cartToPolar(ground.x, ground.y)
    across = angle * np.float32(2080 / (2 * np.pi))
    outwards = np.clip(radius * np.float32(180), 0, 95)
    return np.asarray(cv2.remap(sheet, across, np.asarray(outwards, np.float32), cv2.INTER_LINEAR), np.float32)


def _scatter(rng: Random, ground: Ground, count: int, low: float, high: float) -> NDArray[np.float64]:
    """``[N, 2]`` places x, y in pixels whose depth in the lesion lies between ``low`` and ``high``."""
    rows, columns = np.nonzero((ground.depth > low) & (ground.depth < high))
    if not len(rows):
        return np.zeros((0, 2))
    # By share of the list, not by index, so that a seed places them alike at every size.
    picked = (rng.random(count) * len(rows)).astype(int)
    return np.stack([columns[picked] + rng.random(count), rows[picked] + rng.random(count)], 1)


def _globules(rng: Random, traits: Traits, ground: Ground, short: int) -> Field:
    """Brown to black dots and globules; in a ring near the edge (a growing nevus) or scattered."""
    shape = ground.shape
    ring = traits.look is Look.NEVUS and rng.random() < 0.5
    places = _scatter(rng, ground, traits.globules, -0.06 if ring else 0.02, 0.16 if ring else 0.95)
    size = rng.uniform(0.003, 0.0085, len(places)) * short
    cover = dots(shape, np.column_stack([places, size]), short / 420)
    return np.asarray(rng.uniform(0.35, 0.7) * traits.pigment * cover, np.float32)


def _blood(rng: Random, traits: Traits, ground: Ground) -> Field:
    """Redness of the lesion, vessels, and the lagoons of a vascular one."""
    shape = ground.shape
    short = min(shape)
    blood = 0.12 * smoothstep(ground.depth, -0.5, 0.4)
    if traits.look is Look.VASCULAR:
        cell = short * rng.uniform(0.026, 0.045)
        lagoons = smoothstep(cell_walls(rng, shape, cell, 0.75) / np.float32(cell), 0.0, 0.42)
        lagoons = lagoons * np.clip(0.8 + 0.5 * clouds(rng, shape, 7, 4), 0.1, 1.8)
        blood += ground.body * (0.55 + 1.1 * cv2.GaussianBlur(lagoons, (0, 0), cell * 0.12))
    if traits.vessels:
        sheet = np.zeros(shape, np.uint8)
        for start in _scatter(rng, ground, traits.vessels, -0.15, 0.85):
            heading = rng.uniform(0, 2 * np.pi)
            _draw_vessel(rng, sheet, _Vessel(start, heading, 0.08 * short, max(1, round(short / 320)), 2))
        blood += np.float32(0.55 / 255) * cv2.GaussianBlur(sheet, (0, 0), short / 600)
    return np.asarray(blood, np.float32)


@dataclass(frozen=True)
class _Vessel:
    """Where a vessel starts (x, y), where it heads (radians), its length and width in pixels, how often it branches."""

    start: NDArray[np.float64]
    heading: float
    length: float
    width: int
    branches: int


def _draw_vessel(rng: Random, sheet: NDArray[np.uint8], vessel: _Vessel) -> None:
    """A winding vessel that thins and branches, drawn into ``sheet``."""
    steps = 14
    headings = vessel.heading + np.cumsum(rng.normal(0, 0.32, steps))
    ways = np.stack([np.cos(headings), np.sin(headings)], 1) * (vessel.length / steps)
    path = vessel.start + np.cumsum(ways, 0)
    cv2.polylines(sheet, [np.round(path * 16).astype(np.int32)], False, 255, vessel.width, cv2.LINE_AA, shift=4)
    for _ in range(vessel.branches):
        at = int(rng.integers(3, steps - 2))
        heading = float(headings[at] + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9))
        thinner = max(1, vessel.width - 1)
        _draw_vessel(rng, sheet, _Vessel(path[at], heading, vessel.length * 0.6, thinner, vessel.branches - 1))


def _lay_over(rng: Random, traits: Traits, ground: Ground, picture: NDArray[np.float32]) -> None:
    """Blend in place what scatters light instead of absorbing it: blue-white veil, pale milia-like dots, scar white."""
    shape = ground.shape
    short = min(shape)
    if traits.veil:
        where = smoothstep(clouds(rng, shape, 3, 3), -0.1, 1.2) * smoothstep(ground.depth, 0.12, 0.5)
        tint = np.asarray(VEIL_COLOUR, np.float32) * (1 + 0.12 * clouds(rng, shape, 12, 3)[..., None])
        picture += (traits.veil * where)[..., None] * (tint - picture) * np.float32(0.75)
    if traits.look is Look.KERATOSIS:
        places = _scatter(rng, ground, int(rng.integers(12, 40)), 0.1, 0.95)
        size = rng.uniform(0.003, 0.007, len(places)) * short
        cover = dots(shape, np.column_stack([places, size]), short / 300)
        picture += (0.7 * cover)[..., None] * (np.asarray((0.90, 0.82, 0.68), np.float32) - picture)
    if traits.regression:
        peppering = _scatter(rng, ground, 60, 0.1, 0.8)
        size = np.full(len(peppering), 0.0016 * short)
        cover = dots(shape, np.column_stack([peppering, size]), short / 600)
        picture += (0.45 * traits.regression * cover)[..., None] * (
            np.asarray((0.35, 0.36, 0.42), np.float32) - picture
        )
