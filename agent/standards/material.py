"""What an export is made from: the dossier, the overlay, and the capture where it is still what was answered."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agent.answer.scan import Answer
from agent.intake.entry import ChangedError, read_once
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Rejection
from agent.records.results import RESULTS_DIR
from agent.standards.dossier import Dossier, read_dossier

PICTURE_GONE: Final = (
    "The captured picture is no longer on the device: this shows only where the model looked, not what it saw."
)
GREY: Final = 128
LIMITS: Final = DecodeLimits()


@dataclass(frozen=True)
class Material:
    """All that an export is a function of."""

    dossier: Dossier
    overlay: bytes | None
    """A PNG: the picture beside where the model looked, with the answer in words; None where nothing was answered,
    and of an old scan whose pictures were given up."""
    capture: bytes | None
    """The capture's own bytes; None where the file is gone, or is no longer what was answered."""


def gather(state_dir: Path, scan_id: str) -> Material:
    """Read what an export of a scan needs; it changes nothing.

    Raises:
        ExportError: there is nothing to export; the text says why.
        StoreError: the database cannot be read.
    """
    dossier = read_dossier(state_dir, scan_id)
    capture = _capture(dossier)
    overlay = None
    if dossier.answer is not None:
        overlay = _kept_overlay(state_dir, scan_id)
        if overlay is None and dossier.answer.attention_map:
            overlay = _drawn_again(dossier.answer, capture)
    return Material(dossier, overlay, capture)


def _capture(dossier: Dossier) -> bytes | None:
    """The capture, where it is still the content that was answered: files are replaced in place (F04)."""
    try:
        if dossier.path.stat().st_size > LIMITS.max_bytes:
            return None
        data, _ = read_once(dossier.path)
    except (OSError, ValueError, ChangedError):
        return None
    return data if hashlib.sha256(data).hexdigest() == dossier.image_sha256 else None


def _kept_overlay(state_dir: Path, scan_id: str) -> bytes | None:
    try:
        data, _ = read_once(state_dir / RESULTS_DIR / f"{scan_id}.png")
        pixels_of(data)
    except (OSError, ChangedError, SyntaxError, ValueError):
        return None
    return data


def _drawn_again(answer: Answer, capture: bytes | None) -> bytes:
    # Only where the overlay is gone: they bring OpenCV, which costs 30 MB.
    from agent.answer.overlay import render_overlay
    from agent.answer.shrink import preview
    from agent.intake.decode import decode

    # The heatmap's palette index is the attention's intensity, so the stored map serves again.
    heatmap = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.attention_map))), np.uint8)
    if capture is not None:
        try:
            return render_overlay(preview(decode(capture, LIMITS).rgb), heatmap, answer)
        except Rejection:
            pass
    grey = np.full((answer.quality.height, answer.quality.width, 3), GREY, np.uint8)
    return render_overlay(
        preview(grey), heatmap, answer.model_copy(update={"warnings": (PICTURE_GONE, *answer.warnings)})
    )


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    """``[H, W, 3]`` uint8 RGB of an overlay.

    Raises:
        OSError: it is damaged.
    """
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"), np.uint8)
