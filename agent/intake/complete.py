"""Whether a file has reached its end marker: a closed file is not yet a complete one (F01)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from agent.intake.headers import BrokenError, bmp_needs, png_is_complete, sniff
from agent.intake.tiff import read_pages

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""A JPEG marker within entropy-coded data, where 0xFF is stuffed with 0 and restart markers belong to the data."""
_LONG_VALUES = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"))
_IMPLICIT = b"1.2.840.10008.1.2"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = b"1.2.840.10008.1.2.2"
_ENDLESS = 0xFFFFFFFF


def is_complete(data: bytes) -> bool:
    """Whether ``data`` reaches the end marker of its format.

    JPEG: an EOI marker after the scan's data; PNG: IEND; BMP: all rows that the header promises; TIFF: all
    directories, values, strips and tiles inside the file; DICOM: each element inside the file, and pixels among them.
    Bytes of no known format are never complete: they may be the first part of anything.
    """
    try:
        check = _CHECKS.get(sniff(data) or "")
        return check is not None and check(data)
    except (BrokenError, struct.error, IndexError):
        return False


def _jpeg_ends(data: bytes) -> bool:
    """Walk the segments: thumbnails inside them bring end markers of their own, which do not count."""
    at, scanned = 2, False
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            return False
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
        elif kind == 0xD9:
            return scanned
        elif 0xD0 <= kind <= 0xD8 or kind == 0x01:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
            if kind == 0xDA:
                scanned = True
                found = _MARKER.search(data, at)
                if found is None:
                    return False
                at = found.start()
    return False


def _dicom_ends(data: bytes) -> bool:
    """Walk the elements of the data set, whichever of the little-endian encodings it has."""
    at, syntax = 132, b""
    while at + 8 <= len(data) and data[at : at + 2] == b"\x02\x00":
        element = data[at + 2 : at + 4]
        start, length = _dicom_value(data, at, implicit=False)
        if element == b"\x10\x00":
            syntax = data[start : start + length].rstrip(b"\x00 ")
        at = start + length
    if syntax in {_DEFLATED, _BIG_ENDIAN}:
        return at < len(data)  # decoding refuses both by name
    implicit, pixels = syntax == _IMPLICIT, False
    while at < len(data):
        if at + 8 > len(data):
            return False
        pixels |= data[at : at + 4] == b"\xe0\x7f\x10\x00"
        start, length = _dicom_value(data, at, implicit=implicit)
        at = _dicom_items(data, start, implicit=implicit) if length == _ENDLESS else start + length
    return pixels and at == len(data)


def _dicom_value(data: bytes, at: int, *, implicit: bool) -> tuple[int, int]:
    """Where an element's value starts, and its length in bytes."""
    if implicit or data[at : at + 2] == b"\xfe\xff":
        return at + 8, int(struct.unpack_from("<I", data, at + 4)[0])
    if data[at + 4 : at + 6] in _LONG_VALUES:
        return at + 12, int(struct.unpack_from("<I", data, at + 8)[0])
    return at + 8, int(struct.unpack_from("<H", data, at + 6)[0])


def _dicom_items(data: bytes, at: int, *, implicit: bool, depth: int = 0) -> int:
    """The place behind a sequence (or item) of undefined length, whose delimiter must be there."""
    if depth > 32:
        raise BrokenError("the sequences of the DICOM file are nested without end")
    while True:
        tag = data[at : at + 4]
        start, length = _dicom_value(data, at, implicit=implicit)
        if tag in {b"\xfe\xff\xdd\xe0", b"\xfe\xff\x0d\xe0"}:
            return start
        if at + 8 > len(data):
            raise BrokenError("the DICOM file ends within a sequence", truncated=True)
        at = _dicom_items(data, start, implicit=implicit, depth=depth + 1) if length == _ENDLESS else start + length


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _jpeg_ends,
    "PNG": png_is_complete,
    "TIFF": lambda data: bool(read_pages(data)),
    "BMP": lambda data: len(data) >= bmp_needs(data),
    "DICOM": _dicom_ends,
    # Kinds that are refused need not be waited for.
    "GIF": lambda data: data.endswith(b"\x3b"),
    "WebP": lambda data: len(data) >= 8 + int(struct.unpack_from("<I", data, 4)[0]),
}
