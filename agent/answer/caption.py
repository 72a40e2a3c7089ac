"""The words on the overlay: measured, wrapped and drawn in the typeface that Pillow carries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agent.answer import texts
from agent.answer.scan import Answer
from agent.answer.shrink import RGB

Colour = tuple[int, int, int]

WHITE: Final[Colour] = (240, 242, 245)
GREY: Final[Colour] = (160, 166, 176)
AMBER: Final[Colour] = (246, 190, 80)
RED: Final[Colour] = (255, 120, 104)
SIZE_LARGE: Final = 24
SIZE_MIDDLE: Final = 20
SIZE_TEXT: Final = 17
SIZE_SMALL: Final = 14
SIZE_LABEL: Final = 15
MOST_LINES: Final = 16


@dataclass(frozen=True)
class Line:
    """One line of the caption."""

    text: str
    size: int
    colour: Colour
    height: int


def caption_lines(answer: Answer, width: int) -> list[Line]:
    """The caption of an answer, wrapped to ``width`` pixels. It names no patient: overlays are shown and passed on."""
    diagnosis, operating = answer.diagnosis, answer.operating
    name = texts.CLASS_NAMES.get(diagnosis.primary, diagnosis.primary)
    sign = "at or above" if operating.suspicious else "below"
    risk, threshold = _percent_apart(diagnosis.melanoma_risk, operating.threshold)
    lines = _wrap(
        f"Melanoma risk {risk}, {sign} the threshold of {threshold}",
        SIZE_LARGE,
        RED if operating.suspicious else WHITE,
        width,
    )
    lines += _wrap(f"Suggestion: {name}, confidence {_percent(diagnosis.confidence)}", SIZE_MIDDLE, WHITE, width)
    lines += _wrap(answer.recommendation, SIZE_TEXT, WHITE, width)
    for warning in answer.warnings:
        lines += _wrap(f"Note: {warning}", SIZE_TEXT, AMBER, width)
    if len(lines) > MOST_LINES:
        lines = [
            *lines[: MOST_LINES - 1],
            Line("More notes are in the answer's JSON.", SIZE_TEXT, AMBER, SIZE_TEXT + 8),
        ]
    taken = ""
    if answer.captured_at:
        zone = " UTC" if answer.captured_at.utcoffset() == timedelta(0) else ""
        taken = f"   \u00b7   captured {answer.captured_at:%Y-%m-%d %H:%M}{zone}"
    small = f"Scan {answer.scan_id}   \u00b7   model {answer.model_version}{taken}   \u00b7   {answer.backend}"
    lines += _wrap(small, SIZE_SMALL, GREY, width)
    return lines + _wrap(texts.ADJUNCT, SIZE_SMALL, GREY, width)


def draw_caption(canvas: RGB, lines: list[Line], at: tuple[int, int], background: Colour) -> None:
    """Draw the lines onto ``canvas`` from ``(left, top)`` down, in place."""
    left, top = at
    for line in lines:
        _paste(canvas, _drawn(line.text, line.size, line.colour, background), left, top)
        top += line.height


def draw_label(canvas: RGB, text: str, at: tuple[int, int], colour: Colour, background: Colour) -> None:
    """Draw one short label onto ``canvas`` at ``(left, top)``, in place."""
    _paste(canvas, _drawn(text, SIZE_LABEL, colour, background), *at)


def _paste(canvas: RGB, drawn: RGB, left: int, top: int) -> None:
    height, width = drawn.shape[0], min(drawn.shape[1], canvas.shape[1] - left)
    canvas[top : top + height, left : left + width] = drawn[:, :width]


# Kept, since most lines are the same from scan to scan and drawing one costs 0.4 ms; at most some 100 KB each.
@lru_cache(maxsize=24)
def _drawn(text: str, size: int, colour: Colour, background: Colour) -> RGB:
    strip = Image.new("RGB", (max(1, text_width(text, size)), size + 6), background)
    ImageDraw.Draw(strip).text((0, 0), text, fill=colour, font=_font(size))
    return np.asarray(strip)


@lru_cache(maxsize=64)
def text_width(text: str, size: int = SIZE_LABEL) -> int:
    """Pixels that a text takes."""
    return int(np.ceil(_font(size).getlength(text)))


def _percent(share: float, decimals: int | None = None) -> str:
    """A share in per cent; small ones with a decimal, so that no risk reads as zero."""
    if decimals is None:
        decimals = 1 if share < 0.1 else 0
    return f"{share * 100:.{decimals}f} %"


def _percent_apart(risk: float, threshold: float) -> tuple[str, str]:
    """Both in per cent, with as many decimals (at most 4) as it takes to see that they differ, if they do."""
    shown = _percent(risk), _percent(threshold)
    decimals = 1
    while risk != threshold and shown[0] == shown[1] and decimals <= 4:
        shown = _percent(risk, decimals), _percent(threshold, decimals)
        decimals += 1
    return shown


def _wrap(text: str, size: int, colour: Colour, width: int) -> list[Line]:
    lines: list[str] = []
    # Word by word only where needed: measuring costs more than drawing.
    if text_width(text, size) <= width:
        lines.append(text)
    else:
        current, used, space = "", 0.0, _font(size).getlength(" ")
        for word in text.split(" "):
            taken = _font(size).getlength(word)
            if current and used + space + taken > width:
                lines.append(current)
                current, used = word, taken
            else:
                current = f"{current} {word}" if current else word
                used += taken + (space if used else 0.0)
        lines.append(current)
    return [Line(line.strip(), size, colour, size + 8) for line in lines]


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):  # pragma: no cover - every wheel of Pillow has FreeType
        raise TypeError("Pillow was built without FreeType; install Pillow's own wheel")
    # The basic layout engine: these texts need no shaping, and it takes a fifth of the time.
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
