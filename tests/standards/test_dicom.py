"""The DICOM objects of a scan whose capture was no DICOM file."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from agent.answer import texts
from agent.standards import codes
from agent.standards.errors import ExportFailed, NothingToExport, StandardsMissing
from agent.standards.export import Format, export, export_scan
from agent.standards.material import PICTURE_GONE, Material, gather, pixels_of
from agent.standards.objects import CLOCK_NOT_TRUSTED, ID_NOT_WRITTEN
from tests.standards.checks import dciodvfy, missing_attributes, read, texts_of
from tests.standards.conftest import Clinic

hd = pytest.importorskip("highdicom", reason="the DICOM export needs dermascan-edge[standards]")


def objects(material: Material):
    image, report = export(material, Format.DICOM)
    return read(image.data), read(report.data), image, report


def test_both_objects_hold_to_their_definitions(clinic: Clinic, tmp_path: Path) -> None:
    scan_id = clinic.scan(patient_id="P-1", body_site="left forearm")
    image, report, image_file, report_file = objects(gather(clinic.state_dir, scan_id))
    assert image_file.name == f"{scan_id}.image.dcm"
    assert report_file.name == f"{scan_id}.v1.report.dcm"
    assert missing_attributes(image) == []
    assert missing_attributes(report) == []
    assert dciodvfy(image_file.data, tmp_path) == []
    assert dciodvfy(report_file.data, tmp_path) == []


def test_the_checks_find_what_is_missing(clinic: Clinic) -> None:
    image, report, _, _ = objects(gather(clinic.state_dir, clinic.scan()))
    del image.ConversionType
    del report.VerificationFlag
    report.ContentDate = ""
    assert "ConversionType is not there" in missing_attributes(image)
    assert {"VerificationFlag is not there", "ContentDate is empty"} <= set(missing_attributes(report))


def test_the_image_is_the_overlay_and_says_what_it_is(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="P-1")
    material = gather(clinic.state_dir, scan_id)
    image, _, _, _ = objects(material)
    assert image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert material.overlay is not None
    assert np.array_equal(image.pixel_array, pixels_of(material.overlay))
    assert list(image.ImageType) == ["DERIVED", "SECONDARY"]
    assert image.BurnedInAnnotation == "YES"
    assert "attention" in image.DerivationDescription
    assert image.Modality == "DMS"
    assert image.PatientID == "P-1"
    assert image.PatientName == ""
    assert image.LossyImageCompression == "01"  # the capture was a JPEG
    assert "SourceImageSequence" not in image


def test_the_report_is_read_by_highdicom(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="P-1", body_site="left forearm")
    image, _, _, report_file = objects(gather(clinic.state_dir, scan_id))
    report = hd.sr.srread(io.BytesIO(report_file.data))
    assert isinstance(report, hd.sr.ComprehensiveSR)
    (group,) = report.content.get_image_measurement_groups()
    measured = {one.name.value: one for one in group.get_measurements()}
    assert measured["MEL-RISK"].value == 0.62
    assert measured["MEL-RISK"].unit.value == "{ratio}"
    assert measured["MEL-THRESHOLD"].value == 0.31
    shares = [one.value for name, one in measured.items() if name.startswith("P-")]
    assert len(shares) == 7
    assert sum(shares) == pytest.approx(1.0)
    said = {one.name.value: one.value.value for one in group.get_qualitative_evaluations()}
    assert said["SUGGESTION"] == codes.CLASSES["melanoma"].value
    assert said["OPERATING-RESULT"] == "AT-OR-ABOVE"
    assert said["CALIBRATION"] == "CAL-NONE"
    assert "VERDICT" not in said
    assert [one.referenced_sop_instance_uid for one in group.source_images] == [image.SOPInstanceUID]
    assert group.tracking_identifier == scan_id
    (observer,) = report.content.get_observer_contexts()
    assert observer.observer_identifying_attributes.name == "device-1"
    parameters = [text for text in texts_of(report) if text.startswith(("model sha256", "software version"))]
    assert parameters == [f"model sha256: {'ab' * 32}", "software version: 0.1.0"]
    assert {texts.REFER_URGENTLY, texts.ADJUNCT, texts.NOT_CALIBRATED, "left forearm"} <= set(texts_of(report))


def test_warnings_stand_before_the_result(clinic: Clinic) -> None:
    _, report, _, _ = objects(gather(clinic.state_dir, clinic.scan()))
    names = []

    def walk(item) -> None:
        names.append(item.ConceptNameCodeSequence[0].CodeValue)
        for child in item.get("ContentSequence") or ():
            walk(child)

    walk(report)
    assert names.index("WARNING") < names.index("MEL-RISK")


def test_codes_fit_what_dicom_allows() -> None:
    every = [one for one in vars(codes).values() if isinstance(one, codes.Code)]
    for table in (codes.CLASSES, codes.PROBABILITIES, codes.SOURCES, codes.CALIBRATIONS):
        every += table.values()
    every += [codes.class_code("a_class_that_is_not_known_yet_" * 4), codes.probability_code("another_" * 20)]
    assert len(every) > 30
    for one in every:
        assert 0 < len(one.value) <= 16, one
        assert 0 < len(one.meaning) <= 64, one
        assert "benign" not in one.meaning.lower()
    assert set(codes.CLASSES) == set(codes.PROBABILITIES) == set(texts.CLASS_NAMES)


def test_a_repeated_export_gives_the_same_bytes(clinic: Clinic) -> None:
    scan_id = clinic.scan(patient_id="P-1")
    first = export_scan(clinic.state_dir, scan_id, Format.DICOM)
    clinic.now += timedelta(days=3)
    assert export_scan(clinic.state_dir, scan_id, Format.DICOM) == first
    for file in first:
        assert read(file.data).SOPInstanceUID.startswith("2.25.")


def test_a_verdict_gives_a_new_report_and_the_same_image(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    image, report, _, before = objects(gather(clinic.state_dir, scan_id))
    clinic.now += timedelta(hours=1)
    clinic.verdict(scan_id, "melanocytic_nevus", "histopathology", by="Dr CANARY-BY", note="CANARY-NOTE")
    again, judged, _, after = objects(gather(clinic.state_dir, scan_id))
    assert again.SOPInstanceUID == image.SOPInstanceUID
    assert judged.SOPInstanceUID != report.SOPInstanceUID
    assert judged.SeriesInstanceUID == report.SeriesInstanceUID
    assert judged.StudyInstanceUID == report.StudyInstanceUID
    assert (report.InstanceNumber, judged.InstanceNumber) == (1, 2)
    assert (report.PreliminaryFlag, judged.PreliminaryFlag) == ("PRELIMINARY", "FINAL")
    assert judged.VerificationFlag == "UNVERIFIED"
    assert before.name.endswith(".v1.report.dcm")
    assert after.name.endswith(".v2.report.dcm")
    assert b"CANARY" not in after.data
    group = hd.sr.srread(io.BytesIO(after.data)).content.get_image_measurement_groups()[0]
    said = {one.name.value: one.value.value for one in group.get_qualitative_evaluations()}
    assert said["VERDICT"] == codes.CLASSES["melanocytic_nevus"].value
    assert said["VERDICT-SOURCE"] == "HISTO"
    assert said["SUGGESTION"] == codes.CLASSES["melanoma"].value  # what the model said stays as it was


def test_a_withdrawn_verdict_does_not_stand(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    clinic.verdict(scan_id, "melanoma")
    clinic.verdict(scan_id, None)
    _, report, _, file = objects(gather(clinic.state_dir, scan_id))
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert b"VERDICT" not in file.data
    assert report.InstanceNumber == 3


@pytest.mark.parametrize("name", ["山田-7", "Пациент 12", "Müller/ß", "مريض-5", "\U0001f9d1 1"])
def test_ids_of_every_writing(clinic: Clinic, name: str, tmp_path: Path) -> None:
    image, report, image_file, report_file = objects(gather(clinic.state_dir, clinic.scan(patient_id=name)))
    assert image.PatientID == report.PatientID == name
    assert image.SpecificCharacterSet == report.SpecificCharacterSet == "ISO_IR 192"
    assert dciodvfy(image_file.data, tmp_path) == []
    assert dciodvfy(report_file.data, tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 200, "A\\B", "a\nb", "half \ud83d"])
def test_an_id_that_dicom_cannot_hold_is_never_changed(clinic: Clinic, name: str) -> None:
    material = gather(clinic.state_dir, clinic.scan())
    hostile = replace(material, dossier=replace(material.dossier, metadata={"patient_id": name}))
    image, report, _, _ = objects(hostile)
    assert image.PatientID == report.PatientID == ""
    assert ID_NOT_WRITTEN in texts_of(report)


def test_hostile_words_stay_words(clinic: Clinic, tmp_path: Path) -> None:
    site = "\x1b$B\\^=\r\n" * 50
    warning = "half \ud83d and \\ and ^"
    material = gather(clinic.state_dir, clinic.scan(body_site=site))
    assert material.dossier.answer is not None
    answer = material.dossier.answer.model_copy(update={"warnings": (warning,), "recommendation": "日本語 " * 500})
    _, report, _, report_file = objects(replace(material, dossier=replace(material.dossier, answer=answer)))
    assert "half ? and \\ and ^" in texts_of(report)
    assert dciodvfy(report_file.data, tmp_path) == []


def test_a_capture_that_is_gone(clinic: Clinic, tmp_path: Path) -> None:
    scan_id = clinic.scan()
    kept, _ = export_scan(clinic.state_dir, scan_id, Format.DICOM)
    (clinic.scope / "lesion.jpg").unlink()
    again, _ = export_scan(clinic.state_dir, scan_id, Format.DICOM)
    assert np.array_equal(read(again.data).pixel_array, read(kept.data).pixel_array)
    (clinic.state_dir / "results" / f"{scan_id}.png").unlink()
    image, report = export_scan(clinic.state_dir, scan_id, Format.DICOM)
    assert read(image.data).SOPInstanceUID != read(kept.data).SOPInstanceUID
    assert PICTURE_GONE  # burned into the pixels, which hold no words to look for
    assert dciodvfy(image.data, tmp_path) == []
    assert missing_attributes(read(report.data)) == []


@pytest.mark.fault("F04")
def test_another_picture_in_the_captures_place_is_not_used(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    assert gather(clinic.state_dir, scan_id).capture is not None
    (clinic.scope / "lesion.jpg").write_bytes(b"another")
    assert gather(clinic.state_dir, scan_id).capture is None


def test_a_damaged_overlay_is_drawn_again(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    path = clinic.state_dir / "results" / f"{scan_id}.png"
    path.write_bytes(path.read_bytes()[:2000])
    image, _ = export_scan(clinic.state_dir, scan_id, Format.DICOM)
    assert read(image.data).pixel_array.std() > 10


def test_a_refused_capture_is_not_filed(clinic: Clinic) -> None:
    with pytest.raises(NothingToExport, match="fhir or json"):
        export_scan(clinic.state_dir, clinic.refused(), Format.DICOM)


def test_a_clock_that_was_not_trusted_is_said(clinic: Clinic) -> None:
    clinic.trusted = False
    clinic.now = datetime.fromisoformat("1970-01-01T00:03:00+00:00")
    _, report, _, _ = objects(gather(clinic.state_dir, clinic.scan()))
    assert CLOCK_NOT_TRUSTED in texts_of(report)


def test_without_the_library_one_line_says_what_to_install(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(StandardsMissing, match=r"pip install 'dermascan-edge\[standards\]'"):
        export_scan(clinic.state_dir, clinic.scan(), Format.DICOM)


@pytest.mark.fault("F30")
def test_a_failure_names_no_patient(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("CANARY-PATIENT is not a value")

    monkeypatch.setattr("agent.standards.dicom.overlay_image", fail)
    scan_id = clinic.scan(patient_id="CANARY-PATIENT")
    with pytest.raises(ExportFailed) as caught:
        export_scan(clinic.state_dir, scan_id, Format.DICOM)
    assert "CANARY" not in str(caught.value)
    assert "ValueError at test_dicom.py" in str(caught.value)
    assert caught.value.__cause__ is None
