"""Picture to file bytes as a camera makes them, with tags that say that the picture is simulated."""

from __future__ import annotations

import io
import struct
from datetime import datetime
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

SOFTWARE: Final = "DermaScan simulated dermoscope (synthetic)"
DESCRIPTION: Final = "DermaScan simulated dermoscope (synthetic): a drawing, not a photograph of a person"
_EXIF_FOLDER: Final = 0x8769
_DESCRIPTION_TAG, _MODEL_TAG, _SOFTWARE_TAG = 0x010E, 0x0110, 0x0131
_TAKEN_TAG, _TAKEN_FRACTION_TAG = 0x9003, 0x9291


class Format(str, Enum):
    """The formats that dermoscopes' cameras and their software write; the value is the file name's ending."""

    JPEG = "jpg"
    PNG = "png"
    TIFF = "tif"
    BMP = "bmp"
    """Has no room for tags: only its name and the caption in the picture say that it is synthetic."""


def encode(rgb: NDArray[np.uint8], kind: Format, taken_at: datetime, quality: int = 92) -> bytes:
    """Encode a picture ``[H, W, 3]`` uint8 RGB; ``taken_at`` goes into the EXIF tags (local time, to the millisecond)."""
    from PIL import Image

    picture = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[_DESCRIPTION_TAG] = DESCRIPTION
    exif[_MODEL_TAG] = "Simulated dermoscope"
    exif[_SOFTWARE_TAG] = SOFTWARE
    exif.get_ifd(_EXIF_FOLDER).update(
        {
            _TAKEN_TAG: taken_at.strftime("%Y:%m:%d %H:%M:%S"),
            _TAKEN_FRACTION_TAG: f"{taken_at.microsecond // 1000:03d}",
        }
    )
    file = io.BytesIO()
    if kind is Format.JPEG:
        picture.save(file, "JPEG", quality=quality, exif=exif)
    elif kind is Format.PNG:
        picture.save(file, "PNG", compress_level=1, exif=exif)
    elif kind is Format.TIFF:
        picture.save(file, "TIFF", exif=exif)
    else:
        picture.save(file, "BMP")
    return file.getvalue()


def with_comment(jpeg: bytes, comment: str) -> bytes:
    """The same JPEG picture as other bytes: a COM segment with ``comment`` goes in behind the first marker.

    Raises:
        ValueError: the bytes are no JPEG file.
    """
    if jpeg[:2] != b"\xff\xd8":
        raise ValueError("only a JPEG file can carry a comment segment")
    text = comment.encode("utf-8")
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + jpeg[2:]
