"""Result files of committed scans: written right after the commit, later where a crash or a full disk left them out."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from agent.answer.overlay import render_overlay
from agent.answer.pipeline import Analysis
from agent.answer.scan import Answer
from agent.answer.shrink import preview
from agent.intake.decode import decode
from agent.intake.entry import ChangedError, read_once
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

    def __init__(
        self, store: Store, limits: DecodeLimits, away: Callable[[str], bool] = lambda _dermoscope_id: False
    ) -> None:
        """``away``: whether a dermoscope's folder is not there now, so that a picture in it may come back (F03)."""
        self._store, self._limits, self._away = store, limits, away
        self._seen: set[str] | None = None
        self._without_overlay: set[str] = set()

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
                self._file(row)
            except OSError as error:
                _complain(row.scan_id, error)
                if error.errno in _NO_ROOM:
                    missing |= self._seen or set()  # and all the others wait with it
                    break
        self._seen = missing
        self._without_overlay &= missing

    def _file(self, row: Unpublished) -> None:
        overlay = None
        if row.result is not None:
            answer = Answer.model_validate(json.loads(row.result))
            places = dict.fromkeys((row.path, *self._store.places_of(row.scan_id)))
            found = _original(places, answer.image_sha256, self._limits)
            if found is None and self._away(row.dermoscope_id):
                self._file_answer_alone(row.scan_id)
                return
            if found is None:
                log.warning("scan %s: no overlay, its picture is no longer where it was", row.scan_id)
            else:
                overlay = _draw_again(answer, *found, self._limits)
        _write(self._store, row.scan_id, overlay)
        log.info("scan %s: result files written again after an interruption", row.scan_id)

    def _file_answer_alone(self, scan_id: str) -> None:
        """The answer at least, once; the overlay follows when the folder is back."""
        if scan_id not in self._without_overlay:
            write_results(self._store.results_folder, scan_id, self._store.result_bytes(scan_id), None)
            self._without_overlay.add(scan_id)


def _write(store: Store, scan_id: str, overlay: bytes | None) -> int:
    written = write_results(store.results_folder, scan_id, store.result_bytes(scan_id), overlay)
    store.files_written(scan_id)
    return written


def _complain(scan_id: str, error: OSError) -> None:
    log.error("scan %s: its result files could not be written (%s); free disk space", scan_id, error.strerror)


def _original(places: Iterable[Path], sha256: str, limits: DecodeLimits) -> tuple[Path, bytes] | None:
    """The picture that was answered, wherever it lies now: another one under its name is none of ours (F04)."""
    for path in places:
        try:
            real = path.resolve(strict=True)
            if real.stat().st_size > limits.max_bytes:
                continue
            data, _ = read_once(real)
        except (OSError, ChangedError):
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            return path, data
    return None


def _draw_again(answer: Answer, path: Path, data: bytes, limits: DecodeLimits) -> bytes | None:
    try:
        rgb = preview(decode(data, limits, path.name).rgb)
    except Rejection as error:
        log.warning("scan %s: no overlay, its picture can no longer be read (%s)", answer.scan_id, error)
        return None
    # The heatmap's palette index is the attention's intensity, so the stored map serves again.
    heatmap = Image.open(io.BytesIO(base64.b64decode(answer.attention_map)))
    return render_overlay(rgb, np.asarray(heatmap, np.uint8), answer)
