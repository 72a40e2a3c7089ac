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
    NOT_CALIBRATED = "not_calibrated"


class Rejection(Exception):
    """A capture is refused. ``str(rejection)`` is a sentence for a nurse: what is wrong and what to do."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


SMALLER = "Choose a smaller picture size."
_AGAIN = "Copy the file again, or take the picture again."
_FORMATS = "Save pictures as JPEG, PNG, TIFF, BMP or DICOM."

SENTENCES: dict[Reason, str] = {
    Reason.EMPTY: "The file is empty. Take the picture again.",
    Reason.TRUNCATED: f"The file ends before the picture does. {_AGAIN}",
    Reason.DAMAGED: f"The picture is damaged and cannot be read. {_AGAIN}",
    Reason.NOT_A_PICTURE: f"This file is not a picture. {_FORMATS}",
    Reason.TOO_MANY_BYTES: f"The file is too large ({{size}} MB; at most {{limit}} MB). {SMALLER}",
    Reason.TOO_MANY_PIXELS: (
        "The picture is too large ({width} x {height} pixels; at most {limit} million). Choose a smaller picture size."
    ),
    Reason.UNSUPPORTED: f"This kind of picture ({{kind}}) cannot be read. {_FORMATS}",
    Reason.SEVERAL_PICTURES: "The file holds {count} pictures. Save each picture in a file of its own.",
    Reason.NOT_A_FILE: "This is {kind}, not a picture. Remove it, or give it another name.",
    Reason.LINK_OUTSIDE: "This is a link to a file outside the camera's folder. Copy the picture itself into it.",
    Reason.GONE: "The file was removed before it could be analysed. Take the picture again.",
    Reason.CRASHED_ANALYSIS: (
        "This picture stopped the program {times} times. Take the picture again; if that happens with other pictures "
        "too, call your support."
    ),
    Reason.ENGINE_FAILED: (
        "This picture could not be analysed in {times} tries, although the device is working. Take the picture again; "
        "judge the lesion without the device meanwhile."
    ),
    Reason.NOT_CALIBRATED: (
        "Only pictures of calibrated dermoscopes are answered here. {why} Take the picture again after the calibration."
    ),
    Reason.UNREADABLE: "The file may not be read. Ask the technician to allow reading of the camera's folder.",
}
"""One sentence for each reason that intake and the daemon give; the parts in braces are filled in by :func:`refuse`."""


def refuse(reason: Reason, **parts: object) -> Rejection:
    """The rejection for ``reason``, its sentence filled with ``parts``; for the caller to raise."""
    return Rejection(reason, SENTENCES[reason].format(**parts))
