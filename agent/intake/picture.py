"""A decoded picture, upright and in plain RGB, with what its file said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding may cost: pixels and bytes of one capture."""

    max_pixels: int = 25_000_000
    max_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Picture:
    """``rgb`` is ``[H, W, 3]`` uint8, sRGB, turned upright; see ``full_size`` for its scale."""

    rgb: NDArray[np.uint8]
    format: str
    """``"JPEG"``, ``"PNG"``, ``"TIFF"``, ``"BMP"`` or ``"DICOM"``: what the bytes are, whatever the name says."""
    notes: tuple[str, ...] = ()
    """What had to be done to the picture, in plain words (turned upright, 16 bits reduced to 8, ...)."""
    captured_at: datetime | None = None
    """When the camera says it was taken (EXIF or DICOM), if it does; naive where the file names no time zone."""
    about: dict[str, str] = field(default_factory=dict)
    """Patient fields a DICOM file carries, under the sidecar's key names; never leaves the device."""
    full_size: tuple[int, int] | None = None
    """Height and width that the camera wrote, where ``rgb`` is smaller (a large JPEG is decoded at half its size)."""

    @property
    def camera_size(self) -> tuple[int, int]:
        """Height and width, in pixels, that the camera wrote, upright."""
        return self.full_size or (self.rgb.shape[0], self.rgb.shape[1])
