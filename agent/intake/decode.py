"""Bytes of a capture to an upright sRGB picture, within bounds; everything that can go wrong is a Rejection (F05)."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from agent.intake.colours import ONLY_GREY, TO_8_BITS, is_srgb, to_srgb
from agent.intake.complete import is_complete
from agent.intake.headers import SUPPORTED, Broken, read_png, sniff
from agent.intake.exif import exif_moment, exif_orientation
from agent.intake.picture import DecodeLimits, Picture
from agent.intake.reasons import Reason, Rejection, refuse
from agent.intake.tiff import read_pages

_TURNED = "The picture was turned upright, as the camera noted."
_LOWER_PART = "The lower part of the picture is missing. Take the picture again, or copy the file again."
_GREY_SHARE = 0.05
_MAX_SAMPLES = 5
_ORIENTATION = 0x0112
_CV2_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

_quiet_lock = threading.RLock()

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
    """8-bit RGB or grey without transparency or colour profile: OpenCV decodes it, several times as fast."""
    grey: bool
    orientation: int = 1
    captured_at: datetime | None = None
    page: int = 0


def decode(data: bytes, limits: DecodeLimits, name: str = "") -> Picture:
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
    except Broken as broken:
        raise refuse(Reason.TRUNCATED if broken.truncated else Reason.DAMAGED) from broken
    except Exception as error:  # noqa: BLE001 - decoders meet bytes from anywhere and raise anything; none may stop us
        raise refuse(Reason.DAMAGED) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keep a library's Python warnings to itself; one thread at a time, as the filters belong to the process."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_size(width: int, height: int, limits: DecodeLimits) -> None:
    """Refuse what has more pixels than the limits allow, or none at all.

    Raises:
        Rejection: too many pixels, or a side of length 0.
    """
    if width < 1 or height < 1:
        raise refuse(Reason.DAMAGED)
    if width * height > limits.max_pixels:
        limit = f"{limits.max_pixels / 1e6:g}"
        raise refuse(Reason.TOO_MANY_PIXELS, width=width, height=height, limit=limit)


def _decode(data: bytes, kind: str, limits: DecodeLimits) -> Picture:
    if not is_complete(data):
        raise refuse(Reason.TRUNCATED)
    if kind == "DICOM":
        from agent.intake.dicom import decode_dicom

        return decode_dicom(data, limits)
    with quietly():
        header = _HEADERS[kind](data, limits)
    rgb, notes = _pixels(data, kind, header)
    if kind == "JPEG" and missing_rows(rgb) > _GREY_SHARE * rgb.shape[0]:
        raise Rejection(Reason.DAMAGED, _LOWER_PART)
    if header.orientation != 1:
        notes = (*notes, _TURNED)
        rgb = turn(rgb, header.orientation)
    return Picture(np.ascontiguousarray(rgb), kind, notes, header.captured_at)


def missing_rows(rgb: NDArray[np.uint8]) -> int:
    """How many rows at the bottom of a decoded JPEG were never in its data; 0 where all of them look so.

    libjpeg fills what it does not find with coefficients of 0, which is 128 in each channel. A dermoscope's own
    black or white margin never has exactly this colour in whole rows.

    Args:
        rgb: ``[H, W, 3]`` uint8.
    """
    height: int = rgb.shape[0]
    count = 0
    while count < height and bool((rgb[height - 1 - count] == 128).all()):
        count += 1
    return count if count < height else 0


def turn(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn ``[H, W, 3]`` pixels upright from the EXIF orientation (CIPA DC-008, tag 0x0112) they were stored in."""
    match orientation:
        case 2:
            return rgb[:, ::-1]
        case 3:
            return rgb[::-1, ::-1]
        case 4:
            return rgb[::-1]
        case 5:
            return rgb.transpose(1, 0, 2)
        case 6:
            return rgb.transpose(1, 0, 2)[:, ::-1]
        case 7:
            return rgb.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            return rgb.transpose(1, 0, 2)[::-1]
        case _:
            return rgb


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
    plain = png.depth == 8 and png.colour_type in {0, 2} and not png.transparent and not png.profile
    grey = png.colour_type in {0, 4}
    return _Header(png.width, png.height, png.depth, plain, grey, exif_orientation(exif), exif_moment(exif))


_HEADERS: dict[str, Callable[[bytes, DecodeLimits], _Header]] = {
    "JPEG": _jpeg_or_bmp_header,
    "BMP": _jpeg_or_bmp_header,
    "PNG": _png_header,
    "TIFF": _tiff_header,
}


def _standard_colours(profile: object) -> bool:
    return not profile or (isinstance(profile, bytes) and is_srgb(profile))


def _pixels(data: bytes, kind: str, header: _Header) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """``[H, W, 3]`` uint8 sRGB as stored, not yet turned; and notes."""
    if header.plain:
        rgb = _opencv(data, header)
        if rgb is not None:
            return rgb, (ONLY_GREY,) if header.grey else ()
    with quietly():
        try:
            image = Image.open(BytesIO(data), formats=(kind,))
        except UnidentifiedImageError:
            # Pillow has no mode for some TIFFs that OpenCV reads, 16-bit colour among them.
            rgb = _opencv(data, header) if kind == "TIFF" and header.page == 0 else None
            if rgb is None:
                raise refuse(Reason.UNSUPPORTED, kind=f"{kind}, {header.depth} bits") from None
            return rgb, (TO_8_BITS,) if header.depth > 8 else ()
        with image:
            image.seek(header.page)
            if kind == "TIFF":
                # Pillow would turn it while loading; here every format is turned in one place.
                image.tag_v2.pop(_ORIENTATION, None)  # type: ignore[attr-defined]
            return to_srgb(image, header.depth)


def _opencv(data: bytes, header: _Header) -> NDArray[np.uint8] | None:
    rgb = cv2.imdecode(np.frombuffer(data, np.uint8), _CV2_FLAGS)
    if rgb is None or rgb.shape != (header.height, header.width, 3):
        return None
    return rgb.astype(np.uint8, copy=False)
