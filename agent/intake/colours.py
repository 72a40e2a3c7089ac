"""Any picture that Pillow opened, as plain 8-bit sRGB: depth, palette, transparency, CMYK and colour profiles."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from agent.intake.reasons import Reason, refuse

TO_8_BITS = "The picture has 16 bits per colour; they were reduced to 8."
ONLY_GREY = "The picture has no colours, only shades of grey."
_ON_WHITE = "The picture has transparent parts; they are shown on white."
_PROFILED = "The picture's own colour profile was converted to standard colours (sRGB)."
_PROFILE_LEFT = "The picture's own colour profile cannot be used; its colours were taken as they are."
_KINDS = {
    "1": "The picture has only black and white.",
    "L": ONLY_GREY,
    "P": "The picture has a reduced set of colours.",
    "CMYK": "The picture has printing colours (CMYK); they were converted.",
    "LAB": "The picture has Lab colours; they were converted.",
    "YCbCr": "The picture has video colours (YCbCr); they were converted.",
    "HSV": "The picture has HSV colours; they were converted.",
}
_MAX_PROFILE = 4 * 1024 * 1024


def to_srgb(image: Image.Image, depth: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The pixels of an opened picture as ``[H, W, 3]`` uint8 sRGB, and notes on what was done to them.

    ``depth`` is the file's bits per channel (Pillow itself keeps the upper 8 of 16-bit colour). Loads the pixels.

    Raises:
        Rejection: a kind of pixel that no camera writes (32-bit whole numbers, floating point).
    """
    notes: list[str] = [TO_8_BITS] if depth == 16 else []
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode in {"I", "F"}:
        raise refuse(Reason.UNSUPPORTED, kind=f"{depth} bits per pixel")
    if "transparency" in image.info or image.mode in {"LA", "PA", "La", "RGBA", "RGBa"}:
        grey = image.mode in {"L", "LA", "La", "1"}
        clear = image.convert("RGBA")
        base = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        base.alpha_composite(clear)
        image = base.convert("RGB")
        notes.append(_ON_WHITE)
        if grey:
            notes.append(_KINDS["L"])
    if image.mode in _KINDS:
        notes.append(_KINDS[image.mode])
    if image.mode in {"1", "P", "HSV", "YCbCr"}:
        image = image.convert("RGB")
    if isinstance(profile, bytes) and profile:
        image, note = _apply_profile(image, profile)
        notes += [note] if note else []
    if image.mode == "LAB":
        image = _lab_to_rgb(image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.asarray(image, dtype=np.uint8), tuple(notes)


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile is one of the many copies of sRGB, by the name it gives itself."""
    return b"sRGB" in profile[:1024] or "sRGB".encode("utf-16-be") in profile[:4096]


def rgb_to_srgb(rgb: NDArray[np.uint8], profile: bytes) -> tuple[NDArray[np.uint8], str | None]:
    """Convert ``[H, W, 3]`` uint8 pixels from their profile's colours to sRGB; and a note, where there is one."""
    if is_srgb(profile):
        return rgb, None
    image, note = _apply_profile(Image.fromarray(rgb), profile)
    return np.asarray(image, dtype=np.uint8), note


def _apply_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    if is_srgb(profile) and image.mode == "RGB":
        return image, None
    if len(profile) > _MAX_PROFILE:
        return image, _PROFILE_LEFT
    try:
        converted = ImageCms.applyTransform(image, _transform(profile, image.mode))
    except (ImageCms.PyCMSError, ValueError, TypeError, OSError):
        return image, _PROFILE_LEFT
    return (image, _PROFILE_LEFT) if converted is None else (converted, _PROFILED)


@lru_cache(maxsize=4)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """A camera writes the same profile into each picture, and making a transform takes milliseconds."""
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    made = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, made)
    assert converted is not None  # noqa: S101 - only an in-place transform gives nothing back
    return converted
