"""DICOM dermoscopic photographs to pictures: one frame, within bounds. pydicom is imported only when one comes."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agent.intake.bounds import check_size, quietly
from agent.intake.colours import ONLY_GREY, TO_8_BITS, rgb_to_srgb
from agent.intake.exif import parse_moment
from agent.intake.picture import DecodeLimits, Picture
from agent.intake.reasons import Reason, refuse

if TYPE_CHECKING:
    from pydicom import Dataset

_SEXES = {"F": "female", "M": "male", "O": "other"}
_GREY = {"MONOCHROME1", "MONOCHROME2"}
_COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"}
_LITTLE_ENDIAN = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
_JPEG_BASELINE, _RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
_JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
_ODD_PIXELS = "The DICOM file describes its pixels in an unusual way; its colours were taken as well as possible."


def decode_dicom(data: bytes, limits: DecodeLimits) -> Picture:
    """Decode a DICOM file of one frame in grey, RGB, YBR or palette colours; plain, RLE, JPEG baseline or JPEG 2000.

    Returns:
        The picture: ``[H, W, 3]`` uint8 sRGB, with the patient's fields in ``about``.

    Raises:
        Rejection: no pixels, several frames, too many pixels, or an encoding that is not read. pydicom may raise
            anything else for a damaged file; ``decode`` turns it into a rejection.
    """
    with quietly():
        from pydicom import dcmread
        from pydicom.pixels.utils import pixel_array

        dataset = dcmread(BytesIO(data))
        notes = _check(dataset, limits)
        pixels = pixel_array(dataset)
        rgb, more = _to_rgb(pixels, dataset)
        profile = dataset.get("ICCProfile")
        if isinstance(profile, bytes) and profile:
            rgb, note = rgb_to_srgb(rgb, profile)
            more += (note,) if note else ()
        return Picture(np.ascontiguousarray(rgb), "DICOM", notes + more, _moment(dataset), _about(dataset))


def _check(dataset: Dataset, limits: DecodeLimits) -> tuple[str, ...]:
    """Refuse by the header alone what must not or cannot be decoded."""
    if "PixelData" not in dataset:
        raise refuse(Reason.NOT_A_PICTURE)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise refuse(Reason.SEVERAL_PICTURES, count=frames)
    check_size(int(dataset.Columns), int(dataset.Rows), limits)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in {*_LITTLE_ENDIAN, _JPEG_BASELINE, _RLE, *_JPEG_2000}:
        raise refuse(Reason.UNSUPPORTED, kind="DICOM with a rare compression")
    colours = str(dataset.PhotometricInterpretation)
    if colours not in _GREY | _COLOUR or int(dataset.BitsAllocated) not in {8, 16}:
        raise refuse(Reason.UNSUPPORTED, kind="DICOM with rare colours")
    if syntax in {_JPEG_BASELINE, *_JPEG_2000}:
        _check_frame(dataset, limits)
    raw = dataset.PixelData
    needed = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    if colours == "YBR_FULL_422":
        needed = needed * 2 // 3
    if syntax in _LITTLE_ENDIAN and len(raw) < needed:
        raise refuse(Reason.TRUNCATED)
    odd = colours in _GREY and int(dataset.SamplesPerPixel) != 1
    return (_ODD_PIXELS,) if odd else ()


def _check_frame(dataset: Dataset, limits: DecodeLimits) -> None:
    """The compressed frame has a header of its own, which may claim more pixels than the DICOM header around it."""
    from pydicom.encaps import get_frame

    with Image.open(
        BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1)), formats=("JPEG", "JPEG2000")
    ) as frame:
        check_size(frame.width, frame.height, limits)
        if frame.size != (int(dataset.Columns), int(dataset.Rows)):
            raise refuse(Reason.DAMAGED)


def _to_rgb(pixels: NDArray[np.generic], dataset: Dataset) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """``[H, W, 3]`` uint8 from what pydicom gives (YBR already turned into RGB), and notes."""
    from pydicom.pixels.processing import apply_color_lut

    notes: tuple[str, ...] = ()
    bits = int(dataset.BitsStored)
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        bits = 16 if pixels.dtype == np.uint16 else 8
        if bits == 16 and int(pixels.max(initial=0)) <= 255:
            bits = 8  # tables of 16 bits that hold 8, as some cameras write them
    values: NDArray[np.generic] = pixels
    if np.issubdtype(pixels.dtype, np.signedinteger):
        values = pixels.astype(np.int32) + (1 << (bits - 1))
    if bits != 8:
        top = (1 << bits) - 1
        scaled = np.clip(values.astype(np.float32), 0, top) * np.float32(255 / top) + np.float32(0.5)
        values = scaled.astype(np.uint8)
        notes = (TO_8_BITS,) if bits > 8 else ()
    grey = values.astype(np.uint8, copy=False)
    if grey.ndim == 3:
        return grey[..., :3], notes
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=2), (*notes, ONLY_GREY)


def _about(dataset: Dataset) -> dict[str, str]:
    """The patient's fields, under the sidecar's names; what is missing or odd is left out."""
    age = str(dataset.get("PatientAge") or "").strip()
    years = {"Y": age[:3], "M": "0", "W": "0", "D": "0"}.get(age[3:4], "") if age[:3].isdecimal() else ""
    if age[3:4] == "M":
        years = str(int(age[:3]) // 12)
    regions = dataset.get("AnatomicRegionSequence") or []
    region = str(regions[0].get("CodeMeaning") or "") if len(regions) else ""
    found = {
        "patient_id": str(dataset.get("PatientID") or "").strip(),
        "age": str(int(years)) if years and int(years) <= 120 else "",
        "sex": _SEXES.get(str(dataset.get("PatientSex") or "").strip().upper(), ""),
        "body_site": region.strip() or str(dataset.get("BodyPartExamined") or "").strip().lower(),
    }
    return {key: value for key, value in found.items() if value and len(value) <= 64 and value.isprintable()}


def _moment(dataset: Dataset) -> datetime | None:
    """When it was taken; the time zone is the file's own where it names one."""
    zone = str(dataset.get("TimezoneOffsetFromUTC") or "").strip()
    whole = str(dataset.get("AcquisitionDateTime") or "").strip()
    texts = [(whole[:14], whole[-5:] if whole[-5:-4] in {"+", "-"} else zone)]
    for kind in ("Acquisition", "Content"):
        day, time = (str(dataset.get(f"{kind}{part}") or "").strip() for part in ("Date", "Time"))
        texts.append((day[:8] + time[:6], zone))
    moments = (parse_moment(text, "%Y%m%d%H%M%S", offset) for text, offset in texts if len(text) == 14)
    return next((moment for moment in moments if moment is not None), None)
