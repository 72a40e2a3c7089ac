"""Why a capture is refused: a code for programs and one sentence for the person who took the picture."""

from __future__ import annotations

from enum import Enum


class Reason(str, Enum):
    """Codes of refusals, as stored in ``scans.reason``. The value is the contract; the sentence may be improved."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    NOT_A_PICTURE = "not_a_picture"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    UNSUPPORTED = "unsupported"
    SEVERAL_PICTURES = "several_pictures"
    NOT_A_FILE = "not_a_file"
    LINK_OUTSIDE = "link_outside"
    UNREADABLE = "unreadable"
    BLANK = "blank"
    GONE = "gone"
    CRASHED_ANALYSIS = "crashed_analysis"
    ENGINE_FAILED = "engine_failed"


class Rejection(Exception):
    """A capture is refused. ``str(rejection)`` is a sentence for a nurse: what is wrong and what to do."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
