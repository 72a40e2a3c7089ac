"""DICOM photographs: each colour space and encoding that cameras write, and what the file says of the patient."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space

from agent.intake.decode import decode
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, Rejection
from tests.fakes.mutations import dicom

LIMITS = DecodeLimits()
ACROSS, DOWN = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48))
RGB: NDArray[np.uint8] = np.stack((ACROSS, DOWN, 255 - ACROSS), axis=2).astype(np.uint8)
GREY = RGB[..., 0]
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def refused(data: bytes, limits: DecodeLimits = LIMITS) -> Reason:
    with pytest.raises(Rejection) as caught:
        decode(data, limits)
    return caught.value.reason


def difference(data: bytes, expected: NDArray[np.uint8]) -> float:
    rgb = decode(data, LIMITS).rgb
    assert rgb.shape == (48, 64, 3)
    assert rgb.dtype == np.uint8
    wanted = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    return float(np.abs(rgb.astype(int) - wanted.astype(int)).mean())


def test_plain_pixels() -> None:
    assert difference(dicom(RGB), RGB) == 0
    assert difference(dicom(RGB, transfer_syntax="1.2.840.10008.1.2"), RGB) == 0
    assert difference(dicom(GREY), GREY) == 0
    assert difference(dicom(GREY, PhotometricInterpretation="MONOCHROME1"), 255 - GREY) == 0
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1)).tobytes()
    assert difference(dicom(RGB, PlanarConfiguration=1, PixelData=planes), RGB) == 0
    video = convert_color_space(RGB, "RGB", "YBR_FULL").tobytes()
    assert difference(dicom(RGB, PhotometricInterpretation="YBR_FULL", PixelData=video), RGB) < 2


def test_sixteen_and_twelve_bits() -> None:
    deep = GREY.astype(np.uint16) * 257
    assert difference(dicom(deep), GREY) == 0
    twelve = dicom((GREY.astype(np.uint32) * 4095 // 255).astype(np.uint16), BitsStored=12, HighBit=11)
    assert difference(twelve, GREY) < 1
    assert any("16 bits" in note for note in decode(twelve, LIMITS).notes)


def test_jpeg_inside() -> None:
    data = dicom(
        RGB,
        transfer_syntax=JPEG_BASELINE,
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=encapsulate([jpeg(RGB)]),
    )
    assert difference(data, RGB) < 5


def test_a_palette() -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    tables = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour, table in (("Red", ramp), ("Green", ramp[::-1]), ("Blue", ramp))
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", table.astype("<u2").tobytes()))
    }
    data = dicom(GREY, PhotometricInterpretation="PALETTE COLOR", **tables)
    assert difference(data, np.stack((GREY, 255 - GREY, GREY), axis=2)) < 1


def test_the_patient_and_the_moment() -> None:
    region = Dataset()
    region.CodeMeaning = "Skin of back"
    data = dicom(
        RGB,
        PatientID="P-17",
        PatientAge="061Y",
        PatientSex="F",
        BodyPartExamined="BACK",
        AcquisitionDateTime="20240506070809.25+0200",
    )
    picture = decode(data, LIMITS)
    assert picture.about == {"patient_id": "P-17", "age": "61", "sex": "female", "body_site": "back"}
    assert picture.captured_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    other = decode(
        dicom(RGB, PatientAge="018M", AnatomicRegionSequence=[region], ContentDate="20240506", ContentTime="070809"),
        LIMITS,
    )
    assert other.about == {"age": "1", "body_site": "Skin of back"}
    assert other.captured_at == datetime(2024, 5, 6, 7, 8, 9)  # noqa: DTZ001 - the file names no zone


@pytest.mark.fault("F05")
def test_what_is_refused() -> None:
    assert refused(dicom(RGB), DecodeLimits(max_pixels=100)) is Reason.TOO_MANY_PIXELS
    assert refused(dicom(RGB, NumberOfFrames=2, PixelData=RGB.tobytes() * 2)) is Reason.SEVERAL_PICTURES
    assert refused(dicom(RGB)[:-100]) is Reason.TRUNCATED
    assert refused(dicom(RGB, PixelData=RGB.tobytes()[:-100])) is Reason.TRUNCATED
    lossless = dicom(RGB, transfer_syntax="1.2.840.10008.1.2.4.70", PixelData=encapsulate([b"1234"]))
    assert refused(lossless) is Reason.UNSUPPORTED
    larger = jpeg(np.zeros((400, 400, 3), np.uint8))
    bomb = dicom(
        RGB, transfer_syntax=JPEG_BASELINE, PhotometricInterpretation="YBR_FULL_422", PixelData=encapsulate([larger])
    )
    assert refused(bomb) is Reason.DAMAGED
    assert refused(bomb, DecodeLimits(max_pixels=4000)) is Reason.TOO_MANY_PIXELS


def test_pydicom_is_not_imported_before_a_dicom_file_comes() -> None:
    check = "import sys, agent.intake.watch, agent.intake.decode; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
