"""The overlay picture: what was captured beside where the model looked, with the answer in words beneath."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from agent.answer.buffers import Buffers
from agent.answer.caption import Line, caption_lines, draw_caption, draw_label, text_width
from agent.answer.heatmap import Attention, colour_table, intensity
from agent.answer.png import encode_rgb
from agent.answer.scan import Answer
from agent.answer.shrink import RGB, fit, halve_above
from engines.preprocess import centre_square

PANEL_HEIGHT: Final = 384
PANEL_WIDTH: Final = 512
"""Each picture fits into this box: half of 1024 x 768. PNG compression is what an overlay costs, by its area,
while both cores are needed for the next inference: in a burst, 640 x 480 took 0.18 of the engine's throughput."""
CELL_WIDTH: Final = 448
"""Least room for a panel: smaller pictures are enlarged towards it, and the words need it."""
MARGIN: Final = 24
HEADER: Final = 34
BAR_STRIP: Final = 40
BAR_HEIGHT: Final = 10
BACKGROUND: Final = (22, 24, 28)
OUTLINE: Final = (235, 235, 235)
FADED: Final = (178, 184, 194)
LEAST_BLEND: Final = 0.15
MOST_BLEND: Final = 0.55
"""Share of the heatmap's colour at no and at full attention, so that the skin stays visible everywhere."""
_CANVASES: Final = Buffers()
_WORK: Final = Buffers()
"""One overlay is drawn at a time, in 5 ms: a second pair of buffers for the rare two at once would be 4 MB for good."""


@dataclass(frozen=True)
class Layout:
    """Where the parts lie on the canvas; all in pixels. ``square`` is relative to a panel."""

    panel: tuple[int, int]
    """Height and width of each of the two pictures."""
    left: tuple[slice, slice]
    right: tuple[slice, slice]
    square: tuple[slice, slice]
    caption_top: int
    width: int


def layout(height: int, width: int) -> Layout:
    """Where everything goes for a picture of ``height`` x ``width``."""
    panel_height, panel_width = fit(height, width, PANEL_HEIGHT, PANEL_WIDTH)
    enlarge = CELL_WIDTH / max(height, width)
    if enlarge > 1.0:
        panel_height, panel_width = max(1, round(height * enlarge)), max(1, round(width * enlarge))
    cell = max(CELL_WIDTH, panel_width)
    left_x = MARGIN + (cell - panel_width) // 2
    right_x = left_x + cell + MARGIN
    top = MARGIN + HEADER
    rows = slice(top, top + panel_height)
    return Layout(
        panel=(panel_height, panel_width),
        left=(rows, slice(left_x, left_x + panel_width)),
        right=(rows, slice(right_x, right_x + panel_width)),
        square=centre_square(panel_height, panel_width),
        caption_top=top + panel_height + BAR_STRIP,
        width=2 * cell + 3 * MARGIN,
    )


def to_panel(rgb: RGB, place: Layout) -> RGB:
    """The picture at the panel's size: halved by exact means as far as that goes, the rest linearly."""
    height, width = place.panel
    halved = halve_above(rgb, height, width)
    if halved.shape[:2] == (height, width):
        return halved
    return np.asarray(cv2.resize(halved, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def blend(panel: RGB, attention: Attention | RGB, square: tuple[slice, slice]) -> None:
    """Lay the heatmap over the square of ``panel`` that the model looked at; outside it, nothing changes."""
    inside = panel[square]
    side = inside.shape[0]
    area = side * side
    # The weight follows the attention, so a look-up of 256 colours, each already weighted, does most of the work.
    weight = np.linspace(LEAST_BLEND, MOST_BLEND, 256, dtype=np.float32)[:, None]
    weighted = np.rint(colour_table().astype(np.float32) * weight).astype(np.uint8).reshape(256, 1, 3)
    kept = np.repeat(np.rint((1.0 - weight) * 255.0).astype(np.uint8), 3, axis=1).reshape(256, 1, 3)
    with _WORK.lend(7 * area) as work:
        heat, left, colour = work[:area].reshape(side, side), work[area : 4 * area], work[4 * area :]
        heatmap = intensity(attention, side)
        np.multiply(heatmap, np.float32(255.0), out=heatmap)
        np.rint(heatmap, out=heat, casting="unsafe")
        left, colour = (part.reshape(side, side, 3) for part in (left, colour))
        cv2.applyColorMap(heat, kept, dst=left)
        cv2.applyColorMap(heat, weighted, dst=colour)
        cv2.multiply(inside, left, dst=left, scale=1.0 / 255.0)
        cv2.add(left, colour, dst=inside)


def render_overlay(rgb: RGB, attention: Attention | RGB, answer: Answer) -> bytes:
    """Draw the overlay.

    Args:
        rgb: ``[H, W, 3]`` uint8: the picture, or its preview as ``Analysis.rgb`` holds it.
        attention: ``[14, 14]`` float32, or a stored heatmap's indices, ``[224, 224]`` uint8.
        answer: what is written beneath.

    Returns:
        A PNG, at most 1096 pixels wide.
    """
    place = layout(*rgb.shape[:2])
    lines: list[Line] = caption_lines(answer, place.width - 2 * MARGIN)
    height = place.caption_top + sum(line.height for line in lines) + MARGIN
    with _CANVASES.picture(height, place.width) as canvas:
        _draw(canvas, rgb, attention, place)
        draw_caption(canvas, lines, (MARGIN, place.caption_top), BACKGROUND)
        return encode_rgb(canvas)


def _draw(canvas: RGB, rgb: RGB, attention: Attention | RGB, place: Layout) -> None:
    canvas[0] = BACKGROUND
    canvas[1:] = canvas[0]  # row by row is ten times as fast as pixel by pixel
    panel = to_panel(rgb, place)
    canvas[place.left] = panel
    canvas[place.right] = panel
    blend(canvas[place.right], attention, place.square)
    _outline(canvas[place.right], place.square)
    _colour_bar(canvas, place)
    _headings(canvas, place)


def _outline(panel: RGB, square: tuple[slice, slice]) -> None:
    rows, columns = square
    left, top, right, bottom = columns.start, rows.start, columns.stop - 1, rows.stop - 1
    # Light and dark side by side: one of them is seen on any skin. Both lie inside the square.
    cv2.rectangle(panel, (left, top), (right, bottom), OUTLINE, 1)
    if right - left > 4:
        cv2.rectangle(panel, (left + 1, top + 1), (right - 1, bottom - 1), BACKGROUND, 1)


def _headings(canvas: RGB, place: Layout) -> None:
    draw_label(canvas, "Captured picture", (place.left[1].start, MARGIN - 2), FADED, BACKGROUND)
    here = (place.right[1].start, MARGIN - 2)
    draw_label(canvas, "Where the model looked (inside the frame)", here, FADED, BACKGROUND)


def _colour_bar(canvas: RGB, place: Layout) -> None:
    low, high = "low attention", "high attention"
    top = place.right[0].stop + 8
    start = place.right[1].start
    stop = max(place.right[1].stop, start + CELL_WIDTH // 2)
    bar_start = start + text_width(low) + 10
    bar_stop = stop - text_width(high) - 10
    draw_label(canvas, low, (start, top), FADED, BACKGROUND)
    draw_label(canvas, high, (bar_stop + 10, top), FADED, BACKGROUND)
    ramp = np.linspace(0, 255, max(2, bar_stop - bar_start)).astype(np.uint8)
    canvas[top + 6 : top + 6 + BAR_HEIGHT, bar_start : bar_start + len(ramp)] = colour_table()[ramp]
