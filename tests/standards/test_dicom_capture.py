"""A capture that was DICOM itself: its patient and study are taken over, and nothing that is not well formed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.standards.export import Format, export_scan
from agent.standards.material import gather
from agent.standards.taken_over import take_over
from tests.fakes.mutations import dicom
from tests.standards.checks import dciodvfy, missing_attributes, read
from tests.standards.conftest import Clinic

pytest.importorskip("highdicom", reason="the DICOM export needs dermascan-edge[standards]")
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"
STUDY: dict[str, Any] = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "PatientName": NAME,
    "PatientID": "H-77",
    "IssuerOfPatientID": "HOSPITAL",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.3.100",
    "SeriesInstanceUID": "1.2.3.200",
    "StudyDate": "20261119",
    "StudyTime": "081500",
    "StudyID": "S1",
    "AccessionNumber": "ACC-9",
    "ReferringPhysicianName": "Doe^Jane",
    "StudyDescription": "Skin check",
}


def capture(**changes: Any) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    return dicom(pixels, **{**STUDY, **changes})


def both(clinic: Clinic, data: bytes, **about: Any):
    scan_id = clinic.scan(data, "lesion.dcm", **about)
    return scan_id, *(read(file.data) for file in export_scan(clinic.state_dir, scan_id, Format.DICOM))


def test_patient_and_study_are_taken_over(clinic: Clinic, tmp_path: Path) -> None:
    scan_id, image, report = both(clinic, capture(), patient_id="H-77")
    for made in (image, report):
        assert str(made.PatientName) == NAME
        assert made.SpecificCharacterSet == "ISO_IR 192"
        for keyword in set(STUDY) - {"PatientName", "SpecificCharacterSet", "SeriesInstanceUID"}:
            assert made[keyword].value == STUDY[keyword], keyword
        assert made.SeriesInstanceUID != STUDY["SeriesInstanceUID"]
        assert "TimezoneOffsetFromUTC" not in made  # the study's times are in a zone that nobody named
        assert missing_attributes(made) == []
    (source,) = image.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "1.2.3.4"
    assert source.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.77.1.4"
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    referred = {one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in evidence}
    assert referred == {"1.2.3.4", image.SOPInstanceUID}
    for file in export_scan(clinic.state_dir, scan_id, Format.DICOM):
        assert dciodvfy(file.data, tmp_path) == []


def test_the_files_own_zone(clinic: Clinic) -> None:
    _, image, report = both(clinic, capture(TimezoneOffsetFromUTC="+0900"), patient_id="H-77")
    assert image.TimezoneOffsetFromUTC == report.TimezoneOffsetFromUTC == "+0900"
    assert report.ContentTime == "183012"  # 09:30:12 UTC


def test_a_sidecar_that_names_another_patient(clinic: Clinic) -> None:
    """Nothing of the other person: neither name nor study."""
    _, image, report = both(clinic, capture(), patient_id="OTHER-1")
    for made in (image, report):
        assert made.PatientID == "OTHER-1"
        assert made.PatientName == ""
        assert made.PatientBirthDate == ""
        assert made.StudyInstanceUID != "1.2.3.100"
        assert made.AccessionNumber == ""
    assert "SourceImageSequence" not in image


def test_a_file_without_a_patient_gets_the_sidecars(clinic: Clinic) -> None:
    _, image, _ = both(clinic, capture(PatientID="", PatientName=""), patient_id="P-5")
    assert image.PatientID == "P-5"
    assert image.StudyInstanceUID == "1.2.3.100"


def test_the_body_site_of_the_file(clinic: Clinic) -> None:
    from pydicom.dataset import Dataset

    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "14975008", "SCT", "Forearm"
    _, image, report = both(clinic, capture(AnatomicRegionSequence=[region]), patient_id="H-77")
    assert image.AnatomicRegionSequence[0].CodeValue == "14975008"
    assert "14975008" in str(report)


def raw(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    assert len(old) == len(new)
    return data.replace(old, new)


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"StudyInstanceUID": "not a uid"}, ("StudyInstanceUID", "AccessionNumber", "StudyDate")),
        ({"StudyInstanceUID": ""}, ("StudyInstanceUID", "AccessionNumber")),
        ({"AccessionNumber": "x" * 40}, ("AccessionNumber",)),
        ({"PatientSex": "X"}, ("PatientSex",)),
        ({"PatientBirthDate": "yesterday"}, ("PatientBirthDate",)),
        ({"StudyDate": "20269999"}, ("StudyDate",)),
        ({"StudyID": ["a", "b"]}, ("StudyID",)),
        ({"IssuerOfPatientID": "y" * 100}, ("IssuerOfPatientID",)),
        ({"PatientName": "z" * 300}, ("PatientName",)),
    ],
)
def test_what_is_not_well_formed_is_left_out(
    clinic: Clinic, changes: dict[str, Any], lost: tuple[str, ...], tmp_path: Path
) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = capture(**changes)
    scan_id, image, report = both(clinic, data, patient_id="H-77")
    for made in (image, report):
        for keyword in lost:
            assert str(made.get(keyword, "")) != str(STUDY[keyword]), keyword
            assert str(made.get(keyword, "")) not in [str(value) for value in changes.values() if value], keyword
        assert missing_attributes(made) == []
    for file in export_scan(clinic.state_dir, scan_id, Format.DICOM):
        assert dciodvfy(file.data, tmp_path) == []


@pytest.mark.fault("F30")
def test_a_header_that_cannot_be_read(clinic: Clinic, caplog: pytest.LogCaptureFixture) -> None:
    data = bytes(128) + b"DICM" + b"\xff" * 500 + b"CANARY^PATIENT"
    scan_id = clinic.scan(data, "lesion.dcm", patient_id="CANARY-1")
    with caplog.at_level(logging.DEBUG):
        image, _ = export_scan(clinic.state_dir, scan_id, Format.DICOM)
        assert take_over(gather(clinic.state_dir, scan_id)).values == {}
    assert read(image.data).PatientID == "CANARY-1"
    assert "CANARY" not in caplog.text


@pytest.mark.fault("F30")
def test_libraries_say_no_names(clinic: Clinic, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        both(clinic, capture(PatientName="CANARY", ReferringPhysicianName="CANARY"), patient_id="H-77")
    assert "CANARY" not in caplog.text
    out, err = capfd.readouterr()
    assert "CANARY" not in out + err


def test_fhir_refers_to_the_study_and_the_order(clinic: Clinic) -> None:
    import json

    scan_id = clinic.scan(capture(), "lesion.dcm", patient_id="H-77")
    (file,) = export_scan(clinic.state_dir, scan_id, Format.FHIR)
    report = json.loads(file.data)["entry"][0]["resource"]
    assert report["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.100"}
    assert report["basedOn"][0]["identifier"]["value"] == "ACC-9"
    assert NAME.encode() not in file.data  # no more of the patient than the id
    assert b"1970" not in file.data
