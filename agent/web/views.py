"""Pictures for people: the original to the byte, and what the pipeline decoded of it in a size for a screen."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from agent.answer.pipeline import Setting
from agent.answer.shrink import RGB
from agent.intake.decode import decode
from agent.intake.headers import sniff
from agent.intake.reasons import Rejection
from agent.web.problems import CHANGED_PICTURE, PICTURE_GONE, Problem

QUALITY: Final = 92
KEPT: Final = 8
KEPT_BYTES: Final = 8 << 20
"""Of views that are kept for who looks at the same scan again, and for the other screens."""
CHUNK: Final = 256 * 1024
MEDIA_TYPES: Final = {
    "JPEG": ("image/jpeg", "jpg"),
    "PNG": ("image/png", "png"),
    "TIFF": ("image/tiff", "tif"),
    "BMP": ("image/bmp", "bmp"),
    "DICOM": ("application/dicom", "dcm"),
}


@dataclass(frozen=True)
class Original:
    """A scan's picture as the camera wrote it, open for reading; whoever has it closes it."""

    handle: int
    size: int
    media_type: str
    suffix: str


def open_original(path: Path, sha256: str) -> Original:
    """Open a scan's picture, and see that it is still the one that was answered.

    Raises:
        Problem: it is gone, or another one by now.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise Problem(PICTURE_GONE, "The picture was moved or deleted since it was answered.") from None
    try:
        size, start = _check(handle, sha256)
    except BaseException:
        os.close(handle)
        raise
    media_type, suffix = MEDIA_TYPES.get(sniff(start) or "", ("application/octet-stream", "bin"))
    return Original(handle, size, media_type, suffix)


def _check(handle: int, sha256: str) -> tuple[int, bytes]:
    """A file's size and its first bytes; raises Problem where it is not the one of this hash."""
    status = os.fstat(handle)
    start = b""
    digest = hashlib.sha256()
    if stat.S_ISREG(status.st_mode):
        while block := os.read(handle, CHUNK):
            start = start or block[:256]
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise Problem(
            CHANGED_PICTURE, "The file was changed since it was answered, so it would not show what the answer saw."
        )
    os.lseek(handle, 0, os.SEEK_SET)
    return status.st_size, start


class Views:
    """Makes views and keeps the last few. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def jpeg(self, path: Path, sha256: str, side: int, setting: Setting) -> bytes:
        """What the pipeline decoded of a picture, uncorrected, as JPEG with a long side of ``side`` pixels at most.

        Raises:
            Problem: the picture is gone, or another one by now, or cannot be decoded any more.
        """
        key = (sha256, side)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        original = open_original(path, sha256)
        with os.fdopen(original.handle, "rb") as file:
            data = file.read()
        try:
            with setting.decoding:
                view = _encode(_fit(decode(data, setting.limits).rgb, side))
        except Rejection as refused:
            raise Problem(CHANGED_PICTURE, refused.sentence) from refused
        with self._lock:
            self._kept[key] = view
            while len(self._kept) > KEPT or sum(map(len, self._kept.values())) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return view


def _fit(rgb: RGB, side: int) -> RGB:
    """``rgb``, ``[H, W, 3]`` uint8, shrunk by area so that its long side is ``side`` at most."""
    height, width = rgb.shape[:2]
    share = side / max(height, width)
    if share >= 1.0:
        return rgb
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _encode(rgb: RGB) -> bytes:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1])
