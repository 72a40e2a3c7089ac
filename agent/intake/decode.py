"""Bytes of a capture to an upright sRGB picture, within bounds; everything that can go wrong is a Rejection (F05)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from simplejpeg import decode_jpeg, decode_jpeg_header

from agent.intake.bounds import check_size, quietly
from agent.intake.colours import ONLY_GREY, TO_8_BITS, is_srgb, to_srgb
from agent.intake.complete import is_complete
from agent.intake.exif import exif_moment, exif_orientation
from agent.intake.headers import SUPPORTED, BrokenError, read_png, sniff
from agent.intake.picture import DecodeLimits, Picture
from agent.intake.reasons import SMALLER, Reason, Rejection, refuse
from agent.intake.tiff import read_pages

_TURNED = "The picture was turned upright, as the camera noted."
_LOWER_PART = "A part of the picture is missing, at its lower end. Take the picture again, or copy the file again."
_CORNER, _FILLED = 4, 128
_MAX_SAMPLES = 5
_CV2_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_HALVE_FROM = 8_000_000
"""Pixels from which a plain JPEG is decoded at half its size: libjpeg leaves the finest frequencies out, in half the
time and a quarter of the memory. What is left is still far above all that is measured or shown of it."""

_TURNS = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
"""EXIF orientation to: rows and columns swapped, then the step through the rows and through the columns."""

_SWAPPING = {orientation for orientation, (swapped, _, _) in _TURNS.items() if swapped}

# Damaged files are refused with a sentence; what the libraries say about them helps nobody at the clinic.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# Sizes are checked against the limits before this guard matters; it holds for what is opened elsewhere.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class _Header:
    """What a file says of itself before its pixels are decoded; sizes in pixels, ``depth`` in bits per channel."""

    width: int
    height: int
    depth: int
    plain: bool
    """8-bit RGB or grey of standard colours in a JPEG or BMP: libjpeg-turbo or OpenCV decode it, in half the time."""
    grey: bool
    orientation: int = 1
    captured_at: datetime | None = None
    page: int = 0


def decode(data: bytes, limits: DecodeLimits, name: str = "") -> Picture:  # noqa: ARG001 - for callers to log; never trusted
    """Decode a capture's bytes, whatever its ``name`` claims they are.

    Returns:
        The picture: ``[H, W, 3]`` uint8 sRGB, turned upright.

    Raises:
        Rejection: empty, cut off, damaged, no picture, too large, several pictures, or of a kind that is not read.
    """
    if not data:
        raise refuse(Reason.EMPTY)
    if len(data) > limits.max_bytes:
        raise refuse(Reason.TOO_MANY_BYTES, size=-(-len(data) // 2**20), limit=limits.max_bytes // 2**20)
    kind = sniff(data)
    if kind is None:
        raise refuse(Reason.NOT_A_PICTURE)
    if kind not in SUPPORTED:
        raise refuse(Reason.UNSUPPORTED, kind=kind)
    try:
        return _decode(data, kind, limits)
    except Rejection:
        raise
    except Image.DecompressionBombError as bomb:
        sentence = f"The picture is too large (more than {limits.max_pixels / 1e6:g} million pixels). {SMALLER}"
        raise Rejection(Reason.TOO_MANY_PIXELS, sentence) from bomb
    except BrokenError as broken:
        raise refuse(Reason.TRUNCATED if broken.truncated else Reason.DAMAGED) from broken
    except Exception as error:
        raise refuse(Reason.DAMAGED) from error


def _decode(data: bytes, kind: str, limits: DecodeLimits) -> Picture:
    if not is_complete(data):
        raise refuse(Reason.TRUNCATED)
    if kind == "DICOM":
        from agent.intake.dicom import decode_dicom

        return decode_dicom(data, limits)
    with quietly():
        header = _HEADERS[kind](data, limits)
    rgb, notes, upright = _pixels(data, kind, header)
    full = (header.height, header.width)
    if kind == "JPEG" and ends_early(rgb):
        raise Rejection(Reason.DAMAGED, _LOWER_PART)
    if header.orientation != 1:
        notes = (*notes, _TURNED)
        rgb = rgb if upright else turn(rgb, header.orientation)
        full = full[::-1] if header.orientation in _SWAPPING else full
    return Picture(np.ascontiguousarray(rgb), kind, notes, header.captured_at, full_size=full)


def ends_early(rgb: NDArray[np.uint8]) -> bool:
    """Whether the data of a decoded JPEG ended before its last block, although an end marker follows.

    libjpeg fills what it does not find with coefficients of 0, which is 128 in each channel. The last corner is
    looked at, which the data reach last; a frame of this grey around the whole picture is not meant.

    Args:
        rgb: ``[H, W, 3]`` uint8, as stored, not yet turned.
    """
    last, first = rgb[-_CORNER:, -_CORNER:], rgb[:_CORNER, :_CORNER]
    return bool((last == _FILLED).all()) and not bool((first == _FILLED).all())


def turn(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn ``[H, W, 3]`` pixels upright from the EXIF orientation (CIPA DC-008, tag 0x0112) they were stored in."""
    swapped, rows, columns = _TURNS.get(orientation, (False, 1, 1))
    upright: NDArray[np.uint8] = (rgb.transpose(1, 0, 2) if swapped else rgb)[::rows, ::columns]
    return upright


def _jpeg_or_bmp_header(data: bytes, limits: DecodeLimits) -> _Header:
    with Image.open(BytesIO(data), formats=("JPEG", "BMP")) as image:
        check_size(image.width, image.height, limits)
        exif = image.getexif()
        plain = image.mode in {"RGB", "L"} and _standard_colours(image.info.get("icc_profile"))
        return _Header(
            image.width, image.height, 8, plain, image.mode == "L", exif_orientation(exif), exif_moment(exif)
        )


def _tiff_header(data: bytes, limits: DecodeLimits) -> _Header:
    pages = read_pages(data)
    full = [page for page in pages if not page.thumbnail] or list(pages[:1])
    if len(full) > 1:
        raise refuse(Reason.SEVERAL_PICTURES, count=len(full))
    page = full[0]
    check_size(page.width, page.height, limits)
    if page.samples > _MAX_SAMPLES:
        raise refuse(Reason.UNSUPPORTED, kind=f"{page.samples} colour channels")
    captured_at = None
    with suppress(UnidentifiedImageError), Image.open(BytesIO(data), formats=("TIFF",)) as image:
        captured_at = exif_moment(image.getexif())
    orientation = page.orientation if 1 <= page.orientation <= 8 else 1
    return _Header(page.width, page.height, page.depth, False, page.samples < 3, orientation, captured_at, page.index)


def _png_header(data: bytes, limits: DecodeLimits) -> _Header:
    """Pillow gives a PNG's EXIF only after it has inflated the pixels, so the chunks are read here."""
    png = read_png(data)
    check_size(png.width, png.height, limits)
    if png.frames > 1:
        raise refuse(Reason.SEVERAL_PICTURES, count=png.frames)
    exif = Image.Exif()
    if png.exif:
        exif.load(png.exif)
    # libpng inflates what follows the last row to its end, be it 1000 times the file; Pillow stops there.
    grey = png.colour_type in {0, 4}
    return _Header(png.width, png.height, png.depth, False, grey, exif_orientation(exif), exif_moment(exif))


_HEADERS: dict[str, Callable[[bytes, DecodeLimits], _Header]] = {
    "JPEG": _jpeg_or_bmp_header,
    "BMP": _jpeg_or_bmp_header,
    "PNG": _png_header,
    "TIFF": _tiff_header,
}


def _standard_colours(profile: object) -> bool:
    return not profile or (isinstance(profile, bytes) and is_srgb(profile))


def _pixels(data: bytes, kind: str, header: _Header) -> tuple[NDArray[np.uint8], tuple[str, ...], bool]:
    """``[H, W, 3]`` uint8 sRGB; notes; and whether they are turned upright already."""
    if header.plain:
        halve = kind == "JPEG" and header.width * header.height > _HALVE_FROM
        rgb = _turbo(data, header, halve=halve) if kind == "JPEG" else None
        if rgb is None:
            rgb = _opencv(data, header, halve=halve)
        if rgb is not None:
            return rgb, (ONLY_GREY,) if header.grey else (), False
    with quietly():
        try:
            image = Image.open(BytesIO(data), formats=(kind,))
        except UnidentifiedImageError:
            # Pillow has no mode for some TIFFs that OpenCV reads, 16-bit colour among them.
            rgb = _opencv(data, header) if kind == "TIFF" and header.page == 0 else None
            if rgb is None:
                raise refuse(Reason.UNSUPPORTED, kind=f"{kind}, {header.depth} bits") from None
            return rgb, (TO_8_BITS,) if header.depth > 8 else (), False
        if kind == "TIFF":
            image.seek(header.page)
            image.load()  # which turns it, too
    with image:
        return *to_srgb(image, header.depth), kind == "TIFF"


def _turbo(data: bytes, header: _Header, *, halve: bool) -> NDArray[np.uint8] | None:
    """What libjpeg-turbo has not the least complaint of: OpenCV's pixels, without its copy of them.

    The rest is OpenCV's to judge, which reads some of it.
    """
    height, width = _stored_size(header, halve=halve)
    try:
        if decode_jpeg_header(data)[:2] != (header.height, header.width):
            return None
        if halve:
            rgb = decode_jpeg(data, "RGB", min_height=height, min_width=width, min_factor=2)
        else:
            rgb = decode_jpeg(data, "RGB")
    except ValueError:
        return None
    return rgb if rgb.shape == (height, width, 3) else None


def _stored_size(header: _Header, *, halve: bool) -> tuple[int, int]:
    step = 2 if halve else 1
    return -(-header.height // step), -(-header.width // step)


def _opencv(data: bytes, header: _Header, *, halve: bool = False) -> NDArray[np.uint8] | None:
    # IMREAD_REDUCED_COLOR_2 is the reducing bit and BGR; the bit alone goes together with IMREAD_COLOR_RGB.
    flags = _CV2_FLAGS | cv2.IMREAD_REDUCED_GRAYSCALE_2 if halve else _CV2_FLAGS
    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if rgb is None or rgb.shape != (*_stored_size(header, halve=halve), 3):
        return None
    return rgb.astype(np.uint8, copy=False)
