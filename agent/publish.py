"""Result files of committed scans: written right after the commit, and at start where a crash left a scan without."""

from __future__ import annotations

import base64
import io
import json
import logging

import numpy as np
from PIL import Image

from agent.answer.overlay import render_overlay
from agent.answer.pipeline import Analysis, preview
from agent.answer.scan import Answer
from agent.intake.decode import decode
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Rejection
from agent.records.results import write_results
from agent.records.store import Store, Unpublished

log = logging.getLogger(__name__)


def publish(store: Store, scan_id: str, analysis: Analysis | None) -> int:
    """Write a terminal scan's JSON, and its overlay where it was answered; then note in the store that they lie there.

    A failure (a full disk) is logged and left for the next start: the answer itself is already committed.

    Returns:
        Bytes written.
    """
    overlay = None
    if analysis is not None:
        overlay = render_overlay(analysis.rgb, analysis.attention, analysis.answer)
    return _write(store, scan_id, overlay)


def _write(store: Store, scan_id: str, overlay: bytes | None) -> int:
    try:
        written = write_results(store.results_folder, scan_id, store.result_bytes(scan_id), overlay)
    except OSError as error:
        log.error("scan %s: its result files could not be written (%s); free disk space", scan_id, error)  # noqa: TRY400
        return 0
    store.files_written(scan_id)
    return written


def publish_again(store: Store, limits: DecodeLimits) -> None:
    """Write what a crash between commit and file left out."""
    for row in store.without_files():
        _write(store, row.scan_id, _overlay_again(row, limits))
        log.info("scan %s: result files written again after an interruption", row.scan_id)


def _overlay_again(row: Unpublished, limits: DecodeLimits) -> bytes | None:
    """The overlay from the stored answer and the original, or None where the original is no longer to be had."""
    if row.result is None:
        return None
    answer = Answer.model_validate(json.loads(row.result))
    try:
        rgb = preview(decode(row.path.read_bytes(), limits, row.path.name).rgb)
    except (OSError, Rejection) as error:
        log.warning("scan %s: no overlay, its picture can no longer be read (%s)", row.scan_id, error)
        return None
    # The heatmap's palette index is the attention's intensity, so the stored map serves again.
    heatmap = Image.open(io.BytesIO(base64.b64decode(answer.attention_map)))
    return render_overlay(rgb, np.asarray(heatmap, np.uint8), answer)
