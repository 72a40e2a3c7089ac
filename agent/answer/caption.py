"""The words on the overlay: measured, wrapped and drawn in the typeface that Pillow carries."""

from __future__ import annotations

from dataclasses import dataclass
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
SIZE_TEXT: Final = 18
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
    alarm = RED if operating.suspicious else WHITE
    lines = _wrap(
        f"Melanoma risk {_percent(diagnosis.melanoma_risk)}, {sign} the threshold of {_percent(operating.threshold)}"
        f"   \u00b7   Suggestion: {name} ({_percent(diagnosis.confidence)} confidence)",
        SIZE_LARGE,
        alarm,
        width,
    )
    lines += _wrap(answer.recommendation, SIZE_TEXT, WHITE, width)
    for warning in answer.warnings:
        lines += _wrap(f"Note: {warning}", SIZE_TEXT, AMBER, width)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], Line("More notes are in the answer's JSON.", SIZE_TEXT, AMBER, SIZE_TEXT + 8)]
    taken = f"   \u00b7   captured {answer.captured_at:%Y-%m-%d %H:%M}" if answer.captured_at else ""
    small = f"Scan {answer.scan_id}   \u00b7   model {answer.model_version}{taken}   \u00b7   {answer.backend}"
    lines += _wrap(small, SIZE_SMALL, GREY, width)
    return lines + _wrap(texts.ADJUNCT, SIZE_SMALL, GREY, width)


def draw_caption(canvas: RGB, lines: list[Line], left: int, top: int, background: Colour) -> None:
    """Draw the lines onto ``canvas`` from ``(left, top)`` down, in place."""
    height = sum(line.height for line in lines)
    strip = Image.new("RGB", (canvas.shape[1] - left, height), background)
    draw = ImageDraw.Draw(strip)
    y = 0
    for line in lines:
        draw.text((0, y), line.text, fill=line.colour, font=_font(line.size))
        y += line.height
    canvas[top : top + height, left:] = np.asarray(strip)


def draw_label(canvas: RGB, text: str, left: int, top: int, colour: Colour, background: Colour) -> None:
    """Draw one short label onto ``canvas``, in place."""
    width = min(text_width(text), canvas.shape[1] - left)
    strip = Image.new("RGB", (width, SIZE_LABEL + 6), background)
    ImageDraw.Draw(strip).text((0, 0), text, fill=colour, font=_font(SIZE_LABEL))
    canvas[top : top + SIZE_LABEL + 6, left : left + width] = np.asarray(strip)


def text_width(text: str, size: int = SIZE_LABEL) -> int:
    """Pixels that a text takes."""
    return int(np.ceil(_font(size).getlength(text)))


def _percent(share: float) -> str:
    """A share in per cent; small ones with a decimal, so that no risk reads as zero."""
    return f"{share * 100:.1f} %" if share < 0.1 else f"{share * 100:.0f} %"


def _wrap(text: str, size: int, colour: Colour, width: int) -> list[Line]:
    lines: list[str] = []
    current = ""
    for word in text.split(" "):
        longer = f"{current} {word}" if current else word
        if current and text_width(longer, size) > width:
            lines.append(current)
            current = word
        else:
            current = longer
    lines.append(current)
    return [Line(line.strip(), size, colour, size + 8) for line in lines]


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):  # pragma: no cover - every wheel of Pillow has FreeType
        raise TypeError("Pillow was built without FreeType; install Pillow's own wheel")
    return font
