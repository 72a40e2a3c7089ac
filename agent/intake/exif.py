"""What a camera noted beside the pixels: which way up, and when."""

from __future__ import annotations

from datetime import datetime

from PIL import Image

_ORIENTATION = 0x0112
_EXIF_IFD = 0x8769
_MOMENTS = ((0x9003, 0x9011), (0x9004, 0x9012))
"""Tags of the time and of its offset from UTC: when taken, when digitised. 0x0132 is when a program saved it."""


def exif_orientation(exif: Image.Exif) -> int:
    """How the stored pixels are turned, 1 (upright) to 8; 1 where it is not said or nonsense."""
    value = exif.get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def exif_moment(exif: Image.Exif) -> datetime | None:
    """When the picture was taken: naive unless the camera noted its time zone; ``None`` where it is not said."""
    if not len(exif):
        return None
    inner = exif.get_ifd(_EXIF_IFD)
    for tag, offset in _MOMENTS:
        text = inner.get(tag)
        if not isinstance(text, str):
            continue
        zone = inner.get(offset)
        moment = parse_moment(
            text.strip("\0 "), "%Y:%m:%d %H:%M:%S", zone.strip("\0 ") if isinstance(zone, str) else ""
        )
        if moment is not None:
            return moment
    return None


def parse_moment(text: str, form: str, zone: str = "") -> datetime | None:
    """A time by ``form`` (as of ``strptime``), with an optional zone such as ``+02:00``; ``None`` if unreadable."""
    for written, written_form in ((text + zone, form + "%z" if zone else form), (text, form)):
        try:
            moment = datetime.strptime(written, written_form)  # noqa: DTZ007 - naive where the file names no zone
        except ValueError:
            continue
        return moment if moment.year >= 1990 else None  # a camera whose clock was never set
    return None
