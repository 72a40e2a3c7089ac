"""Picture files as the agent sees them: upright 8-bit sRGB, so that a profile is made in the geometry it is used in."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from calibration.shelf.files import sha256
from calibration.shelf.profile import Shot

RGB = NDArray[np.uint8]

LARGEST_BYTES: Final = 200_000_000
LARGEST_PIXELS: Final = 100_000_000
KEPT_SIDE: Final = 1400
"""Longest side of the pictures kept for the report: sharp over the width of a page."""
_FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP")
_JPEG_QUALITY: Final = 88
_NO_SINGLE_PICTURE: Final = {"I", "F", "1"}


class PictureError(Exception):
    """A file is no picture that can be measured: one sentence with the file, what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was read."""

    path: Path
    sha256: str
    """Of the file's bytes."""
    rgb: RGB
    """uint8 [H, W, 3], RGB, upright."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def shot(self) -> Shot:
        """How a document names it."""
        width, height = self.size
        return Shot(file=self.path.name, sha256=self.sha256, width=width, height=height)


def read_picture(path: Path) -> Picture:
    """Read a JPEG, PNG, TIFF or BMP file: turned upright as EXIF says, its colour profile converted to sRGB.

    Raises:
        PictureError: missing, no picture, damaged, too large, without colours.
    """
    try:
        if path.is_dir():
            raise PictureError(f"{path}: is a folder; name the pictures in it, for example {path}/*.jpg.")
        if path.stat().st_size > LARGEST_BYTES:
            raise PictureError(f"{path}: is larger than any camera's picture; check which file you named.")
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); check the name of the file.") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise PictureError(f"{path}: has more than 100 million pixels; set the camera to a smaller size.")
                if image.mode in _NO_SINGLE_PICTURE:
                    raise PictureError(
                        f"{path}: is no colour photograph; take the picture again as a colour JPEG or PNG."
                    )
                rgb = _upright_srgb(image)
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{path}: is no JPEG, PNG, TIFF or BMP picture; name the shot that the camera wrote."
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path}: is damaged or cut off; copy it again, or take the picture again.") from error
    return Picture(path, sha256(data), rgb)


def _upright_srgb(image: Image.Image) -> RGB:
    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright).astype(np.uint32) * 255 // 65535).astype(np.uint8))
    if upright.mode in {"LA", "PA", "La", "RGBA", "RGBa"} or "transparency" in upright.info:
        clear = upright.convert("RGBA")
        base = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        base.alpha_composite(clear)
        upright = base.convert("RGB")
    if isinstance(profile, bytes) and profile and upright.mode in {"RGB", "L", "CMYK"}:
        upright = _converted(upright, profile)
    rgb: RGB = np.asarray(upright.convert("RGB"), dtype=np.uint8)
    return rgb


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours of the file's own profile as sRGB; a profile that cannot be used is left aside, as the agent does."""
    if image.mode == "RGB" and (b"sRGB" in profile[:1024] or "sRGB".encode("utf-16-be") in profile[:4096]):
        return image
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    except (ImageCms.PyCMSError, ValueError, TypeError, OSError):
        return image


def kept_jpeg(rgb: RGB, *, small: bool = False) -> bytes:
    """A picture as it is kept for the report: a JPEG, no longer than 1400 pixels, or half of that.

    Args:
        rgb: uint8 [H, W, 3].
        small: it is one of many.
    """
    side = KEPT_SIDE // 2 if small else KEPT_SIDE
    image = Image.fromarray(rgb)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def save_picture(rgb: RGB, path: Path) -> None:
    """Write a picture in the format of the path's ending, JPEG at quality 95 without subsampling. Raises OSError."""
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if path.suffix.lower() in {".jpg", ".jpeg"} else {}
    Image.fromarray(rgb).save(path, **options)
