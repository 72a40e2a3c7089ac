"""Picture to file bytes as a camera makes them, with tags that say that the picture is simulated."""

from __future__ import annotations

import io
import struct
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

SOFTWARE: Final = "DermaScan simulated dermoscope (synthetic)"
DESCRIPTION: Final = "DermaScan simulated dermoscope (synthetic): a drawing, not a photograph of a person"
_EXIF_FOLDER: Final = 0x8769
_WHAT: Final = {0x010E: DESCRIPTION, 0x0110: "Simulated dermoscope", 0x0131: SOFTWARE}
_TAKEN_TAG, _TAKEN_ZONE_TAG, _TAKEN_FRACTION_TAG = 0x9003, 0x9011, 0x9291


class Format(str, Enum):
    """The formats that dermoscopes' cameras and their software write; the value is the file name's ending."""

    JPEG = "jpg"
    PNG = "png"
    TIFF = "tif"
    BMP = "bmp"
    """Has no room for tags: only its name and the caption in the picture say that it is synthetic."""


def encode(rgb: NDArray[np.uint8], kind: Format, taken_at: datetime, quality: int = 92) -> bytes:
    """Encode a picture ``[H, W, 3]`` uint8 RGB; ``taken_at`` goes into the EXIF tags, to the millisecond."""
    from PIL import Image

    picture = Image.fromarray(rgb)
    file = io.BytesIO()
    if kind is Format.JPEG:
        picture.save(file, "JPEG", quality=quality, exif=_exif(taken_at))
    elif kind is Format.PNG:
        picture.save(file, "PNG", compress_level=1, exif=_exif(taken_at))
    elif kind is Format.TIFF:
        picture.save(file, "TIFF", tiffinfo=_tiff_tags(taken_at))
    else:
        picture.save(file, "BMP")
    return file.getvalue()


def _exif(taken_at: datetime) -> Image.Exif:
    from PIL import Image

    exif = Image.Exif()
    exif.update(_WHAT)
    exif.get_ifd(_EXIF_FOLDER).update(_when(taken_at))
    return exif


def _tiff_tags(taken_at: datetime) -> ImageFileDirectory_v2:
    """The same as :func:`_exif`; Pillow's TIFF writer drops a nested folder that comes in an ``Exif``."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    for tag, value in _WHAT.items():
        tags[tag] = value
    tags[_EXIF_FOLDER] = _when(taken_at)
    return tags


def _when(taken_at: datetime) -> dict[int, str]:
    zone = taken_at.strftime("%z")
    tags = {
        _TAKEN_TAG: taken_at.strftime("%Y:%m:%d %H:%M:%S"),
        _TAKEN_FRACTION_TAG: f"{taken_at.microsecond // 1000:03d}",
    }
    return {**tags, _TAKEN_ZONE_TAG: f"{zone[:3]}:{zone[3:5]}"} if zone else tags


def with_comment(jpeg: bytes, comment: str) -> bytes:
    """The same JPEG picture as other bytes: a COM segment with ``comment`` goes in behind the first marker.

    Raises:
        ValueError: the bytes are no JPEG file.
    """
    if jpeg[:2] != b"\xff\xd8":
        raise ValueError("only a JPEG file can carry a comment segment")
    text = comment.encode("utf-8")
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + jpeg[2:]
