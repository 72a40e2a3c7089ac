"""What a DICOM capture says of its patient and study, for the objects that are filed beside it.

Only what is well formed is taken: a value that breaks its own rules would make the archive refuse the whole object.
"""

from __future__ import annotations

import io
import logging
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent.standards.discretion import discreet
from agent.standards.material import Material
from agent.standards.words import NOT_TEXT

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

PATIENT: Final = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY: Final = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
_PREAMBLE: Final = 128
_SEXES: Final = frozenset({"F", "M", "O"})
_LOSSY: Final = "1.2.840.10008.1.2.4."
_LOSSLESS: Final = frozenset({"57", "70", "80", "90"})
"""JPEG's lossless transfer syntaxes, by the end of their UIDs; they have a beginning in common with the lossy ones."""


@dataclass(frozen=True)
class Reference:
    """A DICOM instance that another one refers to."""

    study: str
    series: str
    sop_class: str
    sop_instance: str


@dataclass(frozen=True)
class TakenOver:
    """What was taken from a DICOM capture."""

    values: dict[str, Any] = field(default_factory=dict)
    """By DICOM keyword: text, as the file has it once decoded (a name with all its writings)."""
    reference: Reference | None = None
    """The captured instance itself."""
    region: tuple[str, str, str] | None = None
    """Body site as a code: value, scheme, meaning."""
    zone: str | None = None
    """``TimezoneOffsetFromUTC``: what the file's times are meant in."""
    lossy: bool | None = None
    """Whether the captured pixels went through lossy compression; None where the file does not tell."""
    patient_id: str | None = None
    """As the file has it, well formed or not."""
    found: bool = False
    """Whether the capture is a DICOM file of the patient whose scan this is."""

    @property
    def study_uid(self) -> str | None:
        """The study that the capture belongs to."""
        return self.values.get("StudyInstanceUID")


def is_dicom(data: bytes | None) -> bool:
    """Whether bytes are a DICOM file (PS3.10, 7.1)."""
    return data is not None and data[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def take_over(material: Material) -> TakenOver:
    """What the capture's own header says, where it is DICOM and of the patient whose scan this is.

    A sidecar may name another patient than the file does, and wins (the answer warns of it). Then nothing of the file's
    patient and study is taken: a report must not be filed under a person whom the clinic did not mean.
    """
    if not is_dicom(material.capture):
        lossy = material.capture[:2] == b"\xff\xd8" if material.capture is not None else None
        return TakenOver(lossy=True if lossy else None)
    try:
        taken = _read(material.capture or b"")
    except Exception as error:  # noqa: BLE001 - pydicom may raise anything, with the file's values in its words (F30)
        log.warning("scan %s: its DICOM header cannot be used (%s)", material.dossier.scan_id, type(error).__name__)
        return TakenOver()
    meant = material.dossier.patient_id
    if meant is not None and taken.patient_id not in (None, meant.strip()):
        return TakenOver(lossy=taken.lossy)
    return taken


def _read(data: bytes) -> TakenOver:
    with discreet():
        from pydicom import dcmread

        header = dcmread(io.BytesIO(data), stop_before_pixels=True)
        values = {name: text for name in (*PATIENT, *STUDY) if (text := _text(header, name)) is not None}
        if "StudyInstanceUID" not in values:
            # A date or an accession number of no study would be put under one that we made up.
            values = {name: text for name, text in values.items() if name in PATIENT}
        syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
        ending = syntax.removeprefix(_LOSSY)
        squeezed = syntax.startswith(_LOSSY) and ending not in _LOSSLESS
        return TakenOver(
            values=values,
            reference=_reference(header, values.get("StudyInstanceUID")),
            region=_region(header),
            zone=_zone(header),
            lossy=squeezed or str(header.get("LossyImageCompression") or "") == "01" or None,
            patient_id=str(header.get("PatientID") or "").strip() or None,
            found=True,
        )


def _text(header: Dataset, keyword: str) -> str | None:
    """A value as text, where it is there, single, and as its kind demands."""
    if keyword not in header:
        return None
    element = header[keyword]
    if element.VM != 1:
        return None
    text = str(element.value).strip()
    if not text or not well_formed(str(element.VR), text) or (keyword == "PatientSex" and text not in _SEXES):
        return None
    return text


def well_formed(vr: str, text: str) -> bool:
    """Whether a text may be the single value of a DICOM element of this kind."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if "\\" in text or any(unicodedata.category(letter) in NOT_TEXT for letter in text):
        return False
    try:
        validate_value(vr, text, RAISE)
    except ValueError:
        return False
    return True


def _reference(header: Dataset, study: str | None) -> Reference | None:
    uids = [_text(header, name) for name in ("SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")]
    if study is None or None in uids:
        return None
    return Reference(study, *(str(uid) for uid in uids))


def _region(header: Dataset) -> tuple[str, str, str] | None:
    regions = header.get("AnatomicRegionSequence") or []
    if not len(regions):
        return None
    parts = [_text(regions[0], name) for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
    return None if None in parts else (str(parts[0]), str(parts[1]), str(parts[2]))


def _zone(header: Dataset) -> str | None:
    zone = str(header.get("TimezoneOffsetFromUTC") or "").strip()
    return zone if len(zone) == 5 and zone[0] in "+-" and zone[1:].isdecimal() and int(zone[1:3]) <= 14 else None
