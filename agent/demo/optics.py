"""What lies between the lesion and the file: hairs, bubbles, ruler, light, the dermoscope's rim and the sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.demo.fields import Random
from agent.demo.traits import Traits

CAPTION: Final = "SYNTHETIC"
Mask = NDArray[np.uint8]
"""``[H, W]`` uint8, 0 nothing to 255 full."""


@dataclass(frozen=True)
class OnTop:
    """Things in front of the skin, at the picture's full size."""

    hairs: Mask
    hair_colour: tuple[float, float, float]
    """RGB in 0..1."""
    glints: Mask
    """Lightens: the bright edges of bubbles."""
    shades: Mask
    """Darkens: the dark edges of bubbles, ruler."""
    caption: Mask
    caption_shadow: Mask


def draw_on_top(rng: Random, traits: Traits, height: int, width: int) -> OnTop:
    """Draw hairs, bubbles, ruler and the caption that says what this picture is."""
    glints, shades = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    hairs, colour = _hairs(rng, traits, height, width)
    _bubbles(rng, traits, glints, shades)
    if traits.ruler:
        _ruler(rng, traits, shades)
    blur = min(height, width) / 1800
    if blur > 0.5:  # no lens keeps these razor-sharp at many pixels
        hairs, glints, shades = (
            np.asarray(cv2.GaussianBlur(m, (0, 0), blur), np.uint8) for m in (hairs, glints, shades)
        )
    caption, shadow = _caption(height, width)
    return OnTop(hairs, colour, glints, shades, caption, shadow)


def _hairs(rng: Random, traits: Traits, height: int, width: int) -> tuple[Mask, tuple[float, float, float]]:
    """Curved strokes that taper off; drawn at twice the size where a hair is only a pixel or two wide."""
    zoom = 2 if min(height, width) < 1400 else 1
    rows, columns = height * zoom, width * zoom
    short = min(rows, columns)
    sheet = np.zeros((rows, columns), np.uint8)
    main = rng.uniform(0, np.pi)
    t = np.linspace(0, 1, 40)[:, None]
    for _ in range(traits.hairs):
        heading = main + rng.normal(0, 0.55)
        length = rng.uniform(0.18, 1.1) * short
        start = np.array([rng.uniform(-0.1, 1.1) * columns, rng.uniform(-0.1, 1.1) * rows])
        way = np.array([np.cos(heading), np.sin(heading)])
        side = np.array([-way[1], way[0]])
        bend = rng.normal(0, 0.16, 2) * length
        points = [start, start + way * length / 3 + side * bend[0], start + way * length * 2 / 3 + side * bend[1]]
        points.append(start + way * length)
        curve = (1 - t) ** 3 * points[0] + 3 * (1 - t) ** 2 * t * points[1]
        curve = curve + 3 * (1 - t) * t**2 * points[2] + t**3 * points[3]
        thick = rng.uniform(0.0018, 0.0048) * short
        shade = int(rng.uniform(120, 245))
        for part in range(0, 39, 3):
            width_here = max(1, round(thick * (1 - 0.75 * part / 39)))
            piece = np.round(curve[part : part + 4] * 16).astype(np.int32)
            cv2.polylines(sheet, [piece], False, shade, width_here, cv2.LINE_AA, shift=4)
    if zoom > 1:
        sheet = np.asarray(cv2.resize(sheet, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    tone = rng.uniform(0.07, 0.2) if rng.random() < 0.85 else 0.45
    return sheet, (tone * 1.25, tone * 0.98, tone * 0.78)


def _bubbles(rng: Random, traits: Traits, glints: Mask, shades: Mask) -> None:
    """Air in the immersion gel: clusters of thin bright rings with a darker inner line and a glint."""
    height, width = glints.shape
    short = min(height, width)
    line = max(1, round(short / 700))
    left = traits.bubbles
    while left > 0:
        cluster = min(left, int(rng.integers(3, 14)))
        left -= cluster
        middle = np.array([rng.uniform(0.05, 0.95) * width, rng.uniform(0.05, 0.95) * height])
        for _ in range(cluster):
            spot = middle + rng.normal(0, 0.05 * short, 2)
            radius = short * rng.uniform(0.004, 0.018)
            centre = (int(spot[0] * 16), int(spot[1] * 16))
            strength = int(rng.uniform(70, 190))
            cv2.circle(glints, centre, int(radius * 16), strength, line, cv2.LINE_AA, shift=4)
            cv2.circle(shades, centre, int(radius * 13), strength // 2, line, cv2.LINE_AA, shift=4)
            turn = float(rng.uniform(200, 250))
            axes = (int(radius * 11), int(radius * 11))
            cv2.ellipse(glints, centre, axes, 0, turn, turn + 50, min(255, strength * 2), line, cv2.LINE_AA, shift=4)


def _ruler(rng: Random, traits: Traits, shades: Mask) -> None:
    """A millimetre scale near one edge, slightly turned, as etched on the contact plate."""
    height, width = shades.shape
    short = min(height, width)
    edge, tilt = int(rng.integers(0, 2)), rng.normal(0, 0.05)
    reach = 0.40 if traits.rim is None else traits.rim * 0.78
    middle = np.array([width / 2 + rng.uniform(-0.1, 0.1) * short, height / 2 + (reach if edge else -reach) * short])
    along = np.array([np.cos(tilt), np.sin(tilt)])
    across = np.array([-along[1], along[0]]) * (-1 if edge else 1)
    pitch, count = short * rng.uniform(0.022, 0.03), 21
    line = max(1, round(short / 500))
    origin = middle - along * pitch * (count - 1) / 2

    def stroke(start: NDArray[np.float64], end: NDArray[np.float64]) -> None:
        a, b = (tuple(int(v) for v in point * 16) for point in (start, end))
        cv2.line(shades, a, b, 190, line, cv2.LINE_AA, shift=4)

    stroke(origin, origin + along * pitch * (count - 1))
    for tick in range(count):
        at = origin + along * pitch * tick
        length = 0.024 if tick % 10 == 0 else 0.017 if tick % 5 == 0 else 0.011
        stroke(at, at + across * short * length)
        if tick % 10 == 0 and tick:
            text = at + across * short * 0.03 + np.array([-0.008, 0.0 if edge else 0.018]) * short
            place = (int(text[0]), int(text[1]))
            cv2.putText(shades, str(tick), place, cv2.FONT_HERSHEY_SIMPLEX, short / 1500, 190, line, cv2.LINE_AA)


def _caption(height: int, width: int) -> tuple[Mask, Mask]:
    """The word SYNTHETIC in the lower left corner, outside the square that is analysed where the picture is wide."""
    short = min(height, width)
    scale, line = short / 1300, max(1, round(short / 650))
    caption, shadow = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    place = (round(short * 0.02), height - round(short * 0.022))
    cv2.putText(shadow, CAPTION, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, line * 3, cv2.LINE_AA)
    cv2.putText(caption, CAPTION, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, line, cv2.LINE_AA)
    return caption, shadow


def light(traits: Traits, shape: tuple[int, int], rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Brightness of the lamp and transparency of the rim on these rows of the picture, each ``[rows, W]`` 0..1.

    The lamp falls off from the middle; the rim cuts a disc out of the picture with a soft edge.
    """
    height, width = shape
    short = min(shape)
    y = ((np.arange(rows.start, rows.stop, dtype=np.float32) - height / 2) / short)[:, None]
    x = ((np.arange(width, dtype=np.float32) - width / 2) / short)[None, :]
    square = x * x + y * y
    lamp = 1 - np.float32(traits.vignette) * np.minimum(square / np.float32(0.7), 1.3)
    if traits.rim is None:
        return lamp, np.ones_like(lamp)
    distance = np.sqrt(square)
    edge = np.clip((np.float32(traits.rim) - distance) / np.float32(0.018), 0, 1)
    dusk = np.clip((np.float32(traits.rim) - distance) / np.float32(0.16), 0, 1)
    return lamp * (0.72 + 0.28 * dusk), edge * edge * (3 - 2 * edge)
