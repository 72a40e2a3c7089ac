"""End markers: a file is complete when nothing is missing, and never a byte before."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from agent.intake.complete import is_complete
from agent.intake.headers import sniff
from tests.fakes.mutations import dicom, tiff_rgb16


def saved(form: str, **options: object) -> bytes:
    file = BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, form, **options)
    return file.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG whose EXIF holds another JPEG, end marker and all."""
    thumbnail = saved("JPEG")
    exif = b"Exif\0\0" + thumbnail
    main = saved("JPEG")
    return main[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + main[2:]


NOISE = np.random.default_rng(2).integers(0, 256, (24, 30, 3), dtype=np.uint8)
WHOLE = {
    "JPEG": saved("JPEG"),
    "progressive JPEG": saved("JPEG", progressive=True),
    "JPEG with restart markers": saved("JPEG", restart_marker_rows=1),
    "JPEG with thumbnail": with_thumbnail(),
    "PNG": saved("PNG"),
    "BMP": saved("BMP"),
    "TIFF": saved("TIFF"),
    "compressed TIFF": saved("TIFF", compression="tiff_lzw"),
    "BigTIFF": saved("TIFF", big_tiff=True),
    "16-bit TIFF": tiff_rgb16(NOISE),
    "DICOM": dicom(NOISE),
    "implicit DICOM": dicom(NOISE, transfer_syntax="1.2.840.10008.1.2"),
    "GIF": saved("GIF"),
}


@pytest.mark.fault("F01")
@pytest.mark.parametrize("kind", WHOLE)
def test_complete_with_its_last_byte_and_not_before(kind: str) -> None:
    data = WHOLE[kind]
    assert is_complete(data)
    # TIFFs may end in bytes that nothing points to (the names of the program, padding).
    spare = 0 if "TIFF" not in kind else 16
    for length in {0, 1, 4, 20, 200, len(data) // 2, len(data) - 1000, len(data) - 1 - spare}:
        assert not is_complete(data[: max(0, length)]), length


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind not in {"GIF", "DICOM", "implicit DICOM"}])
def test_bytes_behind_the_end_do_no_harm(kind: str) -> None:
    assert is_complete(WHOLE[kind] + b"made by a camera")


def test_bytes_of_no_known_kind_are_never_complete() -> None:
    for data in (b"", b"text", bytes(5000)):
        assert not is_complete(data)
        assert sniff(data) is None


@pytest.mark.fault("F05")
def test_any_bytes_whatever_are_answered() -> None:
    generator = np.random.default_rng(3)
    for data in WHOLE.values():
        for _ in range(150):
            broken = bytearray(data)
            for at in generator.integers(0, len(broken), 4):
                broken[at] = generator.integers(256)
            assert is_complete(bytes(broken)) in {True, False}


def test_a_tiff_without_end_is_not_followed_for_ever() -> None:
    data = bytearray(saved("TIFF"))
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    data[start + 2 + 12 * count : start + 6 + 12 * count] = start.to_bytes(4, "little")
    assert not is_complete(bytes(data))
