"""What a file is by its first bytes, and the little of its structure that is read before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"hevc": "HEIC",
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"jxl ": "JPEG XL",
    b"crx ": "Canon raw",
}
_BMP_HEADERS = {12, 40, 52, 56, 108, 124}
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (PNG_SIGNATURE, "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"%PDF-", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x01\x00", "Windows icon"),
    (b"\x1aE\xdf\xa3", "video"),
)

SUPPORTED = ("JPEG", "PNG", "TIFF", "BMP", "DICOM")
"""Formats that are decoded. ``sniff`` may also name others, which are refused by name."""


class BrokenError(Exception):
    """The structure of a file contradicts itself. ``truncated``: it points behind the end of the file."""

    def __init__(self, what: str, *, truncated: bool = False) -> None:
        super().__init__(what)
        self.truncated = truncated


def sniff(data: bytes) -> str | None:
    """Name the format by its first bytes, or ``None`` where they are of no picture that we know."""
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADERS:
        return "BMP"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video")
    return next((name for start, name in _STARTS if data.startswith(start)), None)


@dataclass(frozen=True)
class PngHeader:
    """What the chunks of a PNG say before its pixels are inflated. Sizes in pixels, ``depth`` in bits per channel."""

    width: int
    height: int
    depth: int
    colour_type: int
    frames: int
    exif: bytes | None
    complete: bool
    """The IEND chunk is there."""


def read_png(data: bytes, *, check: bool = True) -> PngHeader:
    """Walk the chunks of a PNG; with ``check``, verify each one's CRC.

    Raises:
        BrokenError: a chunk reaches behind the end of the file, or its checksum is wrong.
    """
    at, frames, complete = len(PNG_SIGNATURE), 1, False
    exif: bytes | None = None
    head: tuple[int, int, int, int] | None = None
    view = memoryview(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise BrokenError("a part of the PNG reaches behind the end of the file", truncated=True)
        if check and zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise BrokenError("a checksum inside the PNG is wrong")
        if head is None:
            if kind != b"IHDR" or length != 13:
                raise BrokenError("the PNG does not begin with its header")
            head = struct.unpack_from(">IIBB", data, at + 8)
        elif kind == b"acTL" and length == 8:
            frames = max(1, struct.unpack_from(">I", data, at + 8)[0])
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        at = end
        if kind == b"IEND":
            complete = True
            break
    if head is None:
        raise BrokenError("the PNG ends within its header", truncated=True)
    return PngHeader(*head, frames, exif, complete)


def png_is_complete(data: bytes) -> bool:
    """Whether the chunks of a PNG reach to its IEND; checksums are not looked at."""
    try:
        return read_png(data, check=False).complete
    except BrokenError:
        return False


def bmp_needs(data: bytes) -> int:
    """How many bytes a BMP must have by its own header (rows are padded to 4 bytes)."""
    if len(data) < 26:
        return len(data) + 1
    size, _, pixels_at, header = struct.unpack_from("<IIII", data, 2)
    if header == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        packing = 0
    elif len(data) < 54:
        return len(data) + 1
    else:
        width, height, _, depth, packing = struct.unpack_from("<iiHHI", data, 18)
    if packing in {0, 3, 6}:
        # The file size in the header is often wrong or 0; the rows are what counts.
        return int(pixels_at + (abs(width) * depth + 31) // 32 * 4 * abs(height))
    return int(max(size, pixels_at + 1))
