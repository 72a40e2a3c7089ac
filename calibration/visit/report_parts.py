"""The drawn parts of the calibration report: swatches, bars, the gain map, inline pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.shelf.profile import ChartUsed, Figures, PatchResult
from calibration.visit.swatches import hex_of_lab, in_srgb

GAIN_WIDTH: Final = 580
_BAR_ROW, _BAR_LEFT, _BAR_WIDTH, _BAR_ROOM = 15, 110, 560, 50


def image(data: bytes, kind: str, alt: str) -> str:
    """A picture inside the page; ``kind`` is ``jpeg`` or ``png``."""
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}">'


def facts(rows: Mapping[str, str | None]) -> str:
    """A list of names and values; empty ones are left out."""
    cells = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items() if value)
    return f"<dl>{''.join(cells)}</dl>"


def box(outcome: str, title: str, sentences: Sequence[str]) -> str:
    """A framed remark in the colour of an outcome."""
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="box {outcome} apart"><b>{escape(title)}</b>{body}</div>'


def figures_table(rows: Sequence[tuple[str, Figures, bool]], limits: Mapping[str, float]) -> str:
    """Figures below each other; those of a row marked True are held against the limits."""
    heads = ("CIEDE2000", "mean", "95th percentile", "largest", "colour in the greys")
    lines = [f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    for name, figures, judged in rows:
        cells = [f"<td>{escape(name)}</td>"]
        for key in ("mean", "p95", "max", "grey_chroma"):
            value = getattr(figures, key)
            over = judged and key in limits and value > limits[key]
            cells.append(f"<td{' class=over' if over else ''}>{value:.2f}</td>")
        lines.append(f"<tr{' class=strong' if judged else ''}>{''.join(cells)}</tr>")
    told = "".join(f"<td>{f'≤ {limits[key]:g}' if key in limits else ''}</td>" for key in ("mean", "p95", "max"))
    lines.append(f"<tr class=limits><td>limits (engineering choices)</td>{told}<td></td></tr>")
    return f"<table>{''.join(lines)}</table>"


def swatch_grid(patches: Sequence[PatchResult], chart: ChartUsed, limit: float) -> str:
    """The chart as it lies, each patch in three colours."""
    placed = {patch.place: patch for patch in patches}
    cells = []
    for place in range(chart.rows * chart.columns):
        patch = placed.get(place)
        cells.append(_swatch(patch, limit) if patch else "<div></div>")
    columns = f"grid-template-columns:repeat({chart.columns},minmax(0,1fr))"
    return f'{_KEY}<div class="swatches" style="{columns}">{"".join(cells)}</div>'


def _three(before: str, after: str, reference: str) -> str:
    return (
        '<svg viewBox="0 0 90 56" aria-hidden="true">'
        f'<rect width="90" height="56" fill="{reference}"/>'
        f'<rect y="14" width="45" height="28" fill="{before}"/><rect x="45" y="14" width="45" height="28" '
        f'fill="{after}"/></svg>'
    )


_KEY: Final = (
    '<div class="key">' + _three("#8d99a5", "#cbd3da", "#eef1f4") + '<p class="note">The band above and below is the '
    "chart's own colour; the middle is what the camera gives, left without and right with the profile. The better the "
    "profile, the less the right half can be told from the band. Numbers: CIEDE2000 without → with.</p></div>"
)


def _swatch(patch: PatchResult, limit: float) -> str:
    picture = _three(hex_of_lab(patch.before_lab), hex_of_lab(patch.after_lab), hex_of_lab(patch.reference_lab))
    gamut = "" if in_srgb(patch.reference_lab) else " *"
    after = f"<b{' class=over' if patch.after > limit else ''}>{patch.after:.1f}</b>"
    name = f"{escape(patch.name)}{gamut}"
    return f'<div class="swatch">{picture}<span class="name">{name}</span>{patch.before:.1f} → {after}</div>'


def bars(patches: Sequence[PatchResult], limits: Mapping[str, float]) -> str:
    """Differences of each patch as bars: without the profile pale, with it dark."""
    longest = max([limits.get("max", 10.0), *(value for patch in patches for value in (patch.before, patch.after))])
    scale = (_BAR_WIDTH - _BAR_ROOM) / (longest or 1.0)
    height = _BAR_ROW * len(patches) + 18
    parts = []
    end = _BAR_ROW * len(patches) + 2
    for key, colour in (("mean", "#136a36"), ("max", "#b01c1c")):
        if key in limits:
            x = _BAR_LEFT + limits[key] * scale
            parts.append(
                f'<path d="M{x:.1f} 0V{end}" stroke="{colour}" stroke-dasharray="3 3" fill="none"/>'
                f'<text x="{x:.1f}" y="{end + 12}" fill="{colour}" text-anchor="middle">{key} ≤ {limits[key]:g}</text>'
            )
    for row, patch in enumerate(patches):
        y = row * _BAR_ROW
        parts.append(
            f'<text x="{_BAR_LEFT - 8}" y="{y + 11}" text-anchor="end" fill="#51606e">{escape(patch.name)}</text>'
            f'<rect x="{_BAR_LEFT}" y="{y + 2}" width="{max(patch.before * scale, 0.5):.1f}" height="5" '
            'fill="#c2ccd5"/>'
            f'<rect x="{_BAR_LEFT}" y="{y + 7}" width="{max(patch.after * scale, 0.5):.1f}" height="5" fill="#1f5f8b"/>'
            f'<text x="{_BAR_LEFT + max(patch.before, patch.after) * scale + 5:.1f}" y="{y + 11}" class="over">'
            f"{patch.before:.1f} → {patch.after:.1f}</text>"
        )
    return (
        f'<svg viewBox="0 0 {_BAR_LEFT + _BAR_WIDTH + 30} {height}" width="100%" font-size="10" '
        f'font-family="inherit" role="img" aria-label="colour difference of each patch">{"".join(parts)}</svg>'
    )


def gain_picture(gain: NDArray[np.float32]) -> bytes:
    """The gain map as a PNG: dark where the light needs no help, bright where it is raised; lines each 0.1.

    Args:
        gain: float32 [rows, columns, 3] or [rows, columns].
    """
    grey = gain.mean(axis=2) if gain.ndim == 3 else gain
    height = max(1, round(GAIN_WIDTH * grey.shape[0] / grey.shape[1]))
    grey = cv2.resize(np.ascontiguousarray(grey), (GAIN_WIDTH, height), interpolation=cv2.INTER_CUBIC)
    low, high = float(grey.min()), float(grey.max())
    levels = np.clip((grey - low) / max(high - low, 0.02) * 255.0, 0.0, 255.0).astype(np.uint8)
    picture = cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS)
    steps = np.floor(grey * 10.0)
    edges = (np.diff(steps, axis=0, append=steps[-1:]) != 0) | (np.diff(steps, axis=1, append=steps[:, -1:]) != 0)
    picture[edges] = 255
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise ValueError("the gain map could not be drawn")
    return data.tobytes()
