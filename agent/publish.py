"""Result files of committed scans: written right after the commit, later where a crash or a full disk left them out."""

from __future__ import annotations

import base64
import errno
import io
import json
import logging
from typing import Final

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

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def publish(store: Store, scan_id: str, analysis: Analysis | None) -> int:
    """Write a terminal scan's JSON, and its overlay where it was answered; then note in the store that they lie there.

    A failure (a full disk) is logged and left for `Unfiled`: the answer itself is already committed.

    Returns:
        Bytes written.
    """
    overlay = None
    if analysis is not None:
        overlay = render_overlay(analysis.rgb, analysis.attention, analysis.answer)
    try:
        return _write(store, scan_id, overlay)
    except OSError as error:
        _complain(scan_id, error)
        return 0


class Unfiled:
    """Scans that were committed and whose files are not there: a crash came between, or the disk was full (F06).

    To be looked at again and again, from one thread.
    """

    def __init__(self, store: Store, limits: DecodeLimits) -> None:
        self._store, self._limits = store, limits
        self._seen: set[str] | None = None

    def look(self) -> None:
        """Write what was missing at the last look, too; at the first one, what an earlier process left out.

        What came since the last look is being written by whoever answered it.
        """
        missing = set()
        for row in self._store.without_files():
            missing.add(row.scan_id)
            if self._seen is not None and row.scan_id not in self._seen:
                continue
            try:
                _write(self._store, row.scan_id, _overlay_again(row, self._limits))
                log.info("scan %s: result files written again after an interruption", row.scan_id)
            except OSError as error:
                _complain(row.scan_id, error)
                if error.errno in _NO_ROOM:
                    missing |= self._seen or set()  # and all the others wait with it
                    break
        self._seen = missing


def _write(store: Store, scan_id: str, overlay: bytes | None) -> int:
    written = write_results(store.results_folder, scan_id, store.result_bytes(scan_id), overlay)
    store.files_written(scan_id)
    return written


def _complain(scan_id: str, error: OSError) -> None:
    log.error("scan %s: its result files could not be written (%s); free disk space", scan_id, error.strerror)


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
