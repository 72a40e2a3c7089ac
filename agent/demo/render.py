"""Renders simulated dermoscopic pictures: a seed in, a plausible picture of skin and lesion out, marked SYNTHETIC."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.demo.fields import Random
from agent.demo.lesion import draw_tissue
from agent.demo.optics import OnTop, draw_on_top, light
from agent.demo.traits import Traits, traits_of

TISSUE_SIDE: Final = 1400
"""Long side in pixels up to which tissue is drawn as it is; beyond, it is enlarged and fine texture is added.

A lens resolves no more; and 12 megapixels of float32 layers would cost a gigabyte.
"""
ROWS_AT_ONCE: Final = 256
SMALLEST: Final = 64
RIM_COLOUR: Final = (0.020, 0.021, 0.026)


def render_lesion(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """Render one simulated dermoscopic picture.

    Args:
        seed: not negative; decides everything, so that a seed gives the same picture again on the same libraries.
        width: in pixels, at least 64.
        height: in pixels, at least 64.

    Returns:
        ``[height, width, 3]`` uint8 RGB, with the word SYNTHETIC in its lower left corner.

    Raises:
        ValueError: the seed is negative or a side is too small.
    """
    if seed < 0:
        raise ValueError(f"seed {seed}: must not be negative")
    if min(width, height) < SMALLEST:
        raise ValueError(f"{width} x {height}: a simulated picture has at least {SMALLEST} pixels a side")
    traits = traits_of(seed)
    rng = np.random.default_rng([seed, 0x115E])
    share = min(1.0, TISSUE_SIDE / max(width, height))
    tissue = draw_tissue(rng, traits, (max(SMALLEST, round(height * share)), max(SMALLEST, round(width * share))))
    on_top = draw_on_top(rng, traits, height, width)
    grain = _grain(rng, traits)
    picture = np.empty((height, width, 3), np.uint8)
    for first in range(0, height, ROWS_AT_ONCE):
        last = min(height, first + ROWS_AT_ONCE)
        rows = _rows_of(tissue, height, width, first, last)
        noise = np.tile(grain[np.arange(first, last) % len(grain)], (1, -(-width // grain.shape[1]), 1))[:, :width]
        lamp, rim = light(traits, (height, width), slice(first, last))
        _put_in_front(rows, on_top, slice(first, last))
        _expose(rows, traits, lamp, rim, noise)
        _write_caption(rows, on_top, slice(first, last))
        picture[first:last] = cv2.convertScaleAbs(rows, alpha=255).reshape(rows.shape)
    return picture


def _rows_of(tissue: NDArray[np.float32], height: int, width: int, first: int, last: int) -> NDArray[np.float32]:
    """Rows ``first`` to ``last`` of the tissue at the picture's size, ``[rows, W, 3]``."""
    if tissue.shape[:2] == (height, width):
        return tissue[first:last]
    up, across = tissue.shape[0] / height, tissue.shape[1] / width
    place = np.array([[across, 0, across / 2 - 0.5], [0, up, (first + 0.5) * up - 0.5]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    rows = cv2.warpAffine(tissue, place, (width, last - first), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(rows, np.float32)


def _grain(rng: Random, traits: Traits) -> NDArray[np.float32]:
    """Sensor noise and skin's finest texture, ``[512, 512, 3]``, to be laid side by side over the picture."""
    # A colour sensor sees each channel on a part of its pixels: demosaicking smears the noise a little.
    noise = _blurred_round(rng.standard_normal((512, 512, 3), dtype=np.float32), 0.6) * 1.7
    texture = _blurred_round(rng.standard_normal((512, 512), dtype=np.float32), 1.6) * 5.0
    return np.asarray((noise * traits.noise + 0.8 * texture[..., None]) / 255, np.float32)


def _blurred_round(sheet: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A blur that goes on at the opposite edge, so that the sheets show no seam where they meet."""
    pad = 8
    padded = cv2.copyMakeBorder(sheet, pad, pad, pad, pad, cv2.BORDER_WRAP)
    return np.asarray(cv2.GaussianBlur(padded, (0, 0), sigma)[pad:-pad, pad:-pad], np.float32)


def _put_in_front(rows: NDArray[np.float32], on_top: OnTop, part: slice) -> None:
    """Lay hairs, ruler and bubbles over these rows, in place."""
    _blend(rows, on_top.hairs[part], on_top.hair_colour, 0.88)
    _blend(rows, on_top.shades[part], (0.16, 0.15, 0.17), 0.8)
    _blend(rows, on_top.glints[part], (1.02, 1.0, 0.99), 0.75)


def _expose(
    rows: NDArray[np.float32],
    traits: Traits,
    lamp: NDArray[np.float32],
    rim: NDArray[np.float32],
    noise: NDArray[np.float32],
) -> None:
    """What light, rim and sensor make of these rows, in place."""
    rows *= lamp[..., None] * np.asarray(traits.white_balance, np.float32) * np.float32(traits.exposure)
    # The sensor's knee: highlights are compressed, not cut.
    np.subtract(rows, np.maximum(rows - np.float32(0.9), 0) * np.float32(0.55), out=rows)
    if traits.rim is not None:
        rows *= rim[..., None]
        rows += (1 - rim[..., None]) * np.asarray(RIM_COLOUR, np.float32)
    # Photon noise grows with the root of the light; the dark keeps the read-out's.
    rows += noise * (0.35 + 0.65 * np.sqrt(np.clip(rows[..., 1:2], 0, 1)))
    np.clip(rows, 0, 1, out=rows)


def _write_caption(rows: NDArray[np.float32], on_top: OnTop, part: slice) -> None:
    """Write SYNTHETIC over everything, in place."""
    _blend(rows, on_top.caption_shadow[part], (0.08, 0.08, 0.08), 0.75)
    _blend(rows, on_top.caption[part], (0.97, 0.97, 0.97), 1.0)


def _blend(rows: NDArray[np.float32], mask: NDArray[np.uint8], colour: tuple[float, float, float], most: float) -> None:
    """Lay ``colour`` over ``rows`` in place, as much as ``mask`` says; touches only the columns that are masked."""
    used = np.flatnonzero(mask.any(axis=0))
    if not used.size:
        return
    columns = slice(int(used[0]), int(used[-1]) + 1)
    share = (mask[:, columns].astype(np.float32) * np.float32(most / 255))[..., None]
    rows[:, columns] += share * (np.asarray(colour, np.float32) - rows[:, columns])
