"""A profile's colours as an ICC profile (version 2.4, input device), for programs that manage colours themselves.

A 3x3 matrix without a tone curve is a matrix/TRC profile, exact. What a matrix/TRC profile cannot hold (a root
polynomial, the lift of the highlights) becomes a table of 33 x 33 x 33 colours. Gain maps have no place in either.
"""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import numpy as np

from calibration.colour import RGB_TO_XYZ_D50, Floats, linear_to_lab, srgb_to_linear
from calibration.correction.colour_model import ColourModel

_VERSION: Final = 0x02400000
_CURVE_POINTS: Final = 4096
_GRID: Final = 33
_HEADER: Final = 128
_D50: Final = (0.9642, 1.0, 0.8249)
"""The connection space's white as ICC.1 rounds it."""
_RELATIVE_COLORIMETRIC: Final = 1
_LAB_TOP: Final = np.array([65280.0 / 100.0, 256.0, 256.0])
_LAB_OFFSET: Final = np.array([0.0, 128.0, 128.0])
"""16-bit Lab of version 2 (ICC.1:2001-04, 6.3.4): L of 100 is FF00h, a and b of 0 are 8000h."""


def export_icc(
    model: ColourModel, path: Path, *, description: str = "DermaScan dermoscope", made_at: datetime | None = None
) -> None:
    """Write a model as an ICC profile.

    Args:
        model: the profile's colour model, without its gain map.
        path: the file, replaced if it is there.
        description: what programs show; ASCII.
        made_at: the time it carries; none without.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(icc_profile(model, description, made_at))


def icc_profile(model: ColourModel, description: str, made_at: datetime | None = None) -> bytes:
    """The ICC profile as bytes; see `export_icc`."""
    simple = model.kind == "matrix" and model.tone is None
    tags = {
        b"desc": _description(description),
        b"cprt": b"text\0\0\0\0" + b"No copyright\0",
        b"wtpt": _xyz(_D50),
        **(_matrix_tags(model) if simple else {b"A2B0": _table(model)}),
    }
    count = len(tags)
    offset = _HEADER + 4 + 12 * count
    directory, bodies = struct.pack(">I", count), b""
    placed: dict[bytes, int] = {}
    for name, body in tags.items():
        if body not in placed:  # the three curves are one
            placed[body] = offset + len(bodies)
            bodies += body + b"\0" * (-len(body) % 4)
        directory += struct.pack(">4sII", name, placed[body], len(body))
    whole = offset + len(bodies)
    return _header(whole, b"XYZ " if simple else b"Lab ", made_at) + directory + bodies


def _header(size: int, connection_space: bytes, made_at: datetime | None) -> bytes:
    date = made_at.astimezone(timezone.utc).timetuple()[:6] if made_at is not None else (0,) * 6
    return struct.pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI3i4s44x",
        size,
        b"\0\0\0\0",
        _VERSION,
        b"scnr",
        b"RGB ",
        connection_space,
        *date,
        b"acsp",
        b"\0\0\0\0",
        0,
        b"\0\0\0\0",
        b"\0\0\0\0",
        0,
        _RELATIVE_COLORIMETRIC,
        *(_fixed(value) for value in _D50),
        b"\0\0\0\0",
    )


def _fixed(value: float) -> int:
    """As s15Fixed16Number."""
    return round(value * 65536.0)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(_fixed(value) for value in values))


def _description(text: str) -> bytes:
    ascii_text = text.encode("ascii", "replace")[:200] + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(ascii_text)) + ascii_text + b"\0" * (4 + 4 + 2 + 1 + 67)


def _matrix_tags(model: ColourModel) -> dict[bytes, bytes]:
    colorants = RGB_TO_XYZ_D50 @ model.coefficients.T
    levels = srgb_to_linear(np.arange(_CURVE_POINTS) / (_CURVE_POINTS - 1.0))
    curve = b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + _words(levels * 65535.0)
    names = (b"r", b"g", b"b")
    columns = {name + b"XYZ": _xyz((x, y, z)) for name, (x, y, z) in zip(names, colorants.T.tolist(), strict=True)}
    return {**columns, **{name + b"TRC": curve for name in names}}


def _table(model: ColourModel) -> bytes:
    """As lut16Type, from encoded RGB (red slowest) to Lab."""
    axis = srgb_to_linear(np.linspace(0.0, 1.0, _GRID))
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    lab = linear_to_lab(np.clip(model.apply(grid), 0.0, 1.0))  # as pictures are corrected: nothing outside sRGB
    identity = struct.pack(">9i", *(_fixed(value) for value in np.eye(3).ravel()))
    straight = struct.pack(">2H", 0, 65535) * 3
    head = b"mft2\0\0\0\0" + struct.pack(">4B", 3, 3, _GRID, 0) + identity + struct.pack(">2H", 2, 2)
    return head + straight + _words((lab + _LAB_OFFSET) * _LAB_TOP) + straight


def _words(values: Floats) -> bytes:
    return np.rint(np.clip(values, 0.0, 65535.0)).astype(">u2").tobytes()
