"""What both DICOM objects of a scan have in common: whose they are, of which study, when, in which letters."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from agent.standards.dossier import Dossier, moment
from agent.standards.identity import uid_of
from agent.standards.taken_over import PATIENT, TakenOver, well_formed

if TYPE_CHECKING:
    from pydicom import Dataset

PRODUCT: Final = "DermaScan Edge"
UTF_8: Final = "ISO_IR 192"
MODALITY: Final = "DMS"
"""Dermoscopy (PS3.16, CID 29)."""
_BEFORE_META: Final = 128 + 4 + 12
"""Preamble, "DICM", and the element that says how long the rest of the file meta information is."""
ID_NOT_WRITTEN: Final = (
    "The patient's id on the device cannot be written in DICOM (more than 64 characters, or a character that DICOM "
    "keeps for itself); it was left empty rather than changed. Match this by the scan's id."
)
CLOCK_NOT_TRUSTED: Final = "The device's clock could not be trusted when this scan was made: its dates may be wrong."


@dataclass(frozen=True)
class When:
    """Times as DICOM writes them: local ones, in the zone of the capture's own file where it names one."""

    zone: str | None
    """``TimezoneOffsetFromUTC`` to be written, or None where the file whose study is taken names none."""

    @classmethod
    def of(cls, dossier: Dossier, taken: TakenOver) -> When:
        """The zone of a scan's objects. The study's times are taken over as they are, so the zone must be theirs."""
        if taken.study_uid is not None:
            return cls(taken.zone)
        return cls(moment(dossier.finished_at).astimezone().strftime("%z"))

    def date_time(self, at: datetime) -> tuple[str, str]:
        """Date (DA) and time (TM). A time without a zone is the camera's own, and taken as it is."""
        if at.tzinfo is not None:
            at = at.astimezone(datetime.strptime(self.zone, "%z").tzinfo if self.zone else None)
        return at.strftime("%Y%m%d"), at.strftime("%H%M%S")


def notes_of(dossier: Dossier) -> tuple[str, ...]:
    """What must be known before the result is read: the answer's own warnings, and what this export adds to them."""
    notes = list(dossier.answer.warnings if dossier.answer else ())
    if dossier.patient_id is not None and not well_formed("LO", dossier.patient_id):
        notes.append(ID_NOT_WRITTEN)
    if not dossier.clock_trusted:
        notes.append(CLOCK_NOT_TRUSTED)
    return tuple(dict.fromkeys(notes))


def identify(dataset: Dataset, dossier: Dossier, taken: TakenOver, when: When) -> None:
    """Write patient and study into an object: those of the DICOM capture, else the clinic's id and ids of our own."""
    for keyword in PATIENT[:-2]:
        setattr(dataset, keyword, taken.values.get(keyword, ""))
    dataset.PatientBirthDate = taken.values.get("PatientBirthDate", "")
    dataset.PatientSex = taken.values.get("PatientSex", "")
    meant = dossier.patient_id
    if meant is not None and well_formed("LO", meant):
        dataset.PatientID = meant
    if not dataset.IssuerOfPatientID:
        del dataset.IssuerOfPatientID
    captured = dossier.answer.captured_at if dossier.answer else None
    day, time = when.date_time(captured or moment(dossier.received_at))
    own = {
        "StudyInstanceUID": uid_of(dossier.scan_id, "study"),
        "StudyDate": day,
        "StudyTime": time,
        "StudyID": dossier.scan_id[:16],
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
    }
    if taken.study_uid is not None:
        own.update(StudyDate="", StudyTime="", StudyID="")  # empty there: ours would differ from its other objects
    for keyword, value in own.items():
        setattr(dataset, keyword, taken.values.get(keyword, value))
    for keyword in ("StudyDescription", "PatientAge", "PatientSize", "PatientWeight"):
        if keyword in taken.values:
            setattr(dataset, keyword, taken.values[keyword])
    dataset.SpecificCharacterSet = UTF_8
    if when.zone is not None:
        dataset.TimezoneOffsetFromUTC = when.zone


def created(dataset: Dataset, at: str, when: When) -> None:
    """Write when an object's content was made; never the moment of the export, which would make each one different."""
    day, time = when.date_time(moment(at))
    if "ContributingEquipmentSequence" in dataset:
        del dataset.ContributingEquipmentSequence  # the library's own mark, with the time of the export in it
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, time
    dataset.ContentDate, dataset.ContentTime = day, time


def sealed(dataset: Dataset, *name: str) -> bytes:
    """The file of an object, with a SOP Instance UID that is a function of its content, its name and nothing else."""
    _name(dataset, uid_of(*name))
    content = hashlib.sha256(_file(dataset)[_meta_bytes(dataset) :]).hexdigest()
    _name(dataset, uid_of(*name, content))
    return _file(dataset)


def _name(dataset: Dataset, uid: str) -> None:
    from pydicom.uid import UID

    dataset.SOPInstanceUID = UID(uid)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)


def _meta_bytes(dataset: Dataset) -> int:
    """Length of what stands before the content: it names the library's version, which is no matter of content."""
    return _BEFORE_META + int(dataset.file_meta.FileMetaInformationGroupLength)


def _file(dataset: Dataset) -> bytes:
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()
