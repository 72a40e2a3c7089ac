"""The export that the local API hands out."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent.records.errors import StoreError
from agent.standards.download import download
from agent.standards.errors import ExportFailed, NotFinished, NothingToExport, UnknownExport
from agent.standards.export import Format, export_scan
from tests.standards.conftest import Clinic


def test_dicom_is_built_elsewhere_and_comes_as_an_archive(clinic: Clinic) -> None:
    pytest.importorskip("highdicom", reason="the DICOM export needs dermascan-edge[standards]")
    scan_id = clinic.scan(patient_id="P-1")
    body = download(clinic.state_dir, scan_id, Format.DICOM)
    assert (body.name, body.content_type) == (f"{scan_id}.dicom.zip", "application/zip")
    archive = zipfile.ZipFile(io.BytesIO(body.data))
    expected = export_scan(clinic.state_dir, scan_id, Format.DICOM)
    assert {name: archive.read(name) for name in archive.namelist()} == {one.name: one.data for one in expected}
    assert download(clinic.state_dir, scan_id, Format.DICOM) == body


def test_the_others_come_as_they_are(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    body = download(clinic.state_dir, scan_id, Format.FHIR)
    assert body.content_type == "application/fhir+json"
    assert json.loads(body.data)["resourceType"] == "Bundle"
    assert json.loads(download(clinic.state_dir, scan_id, Format.JSON).data)["scan_id"] == scan_id


@pytest.mark.parametrize("wanted", list(Format))
def test_refusals_are_the_same_in_both_processes(clinic: Clinic, wanted: Format) -> None:
    with pytest.raises(UnknownExport, match="is not in the database"):
        download(clinic.state_dir, "no-such-scan", wanted)
    _, scan_id = clinic.claim(b"half")
    with pytest.raises(NotFinished):
        download(clinic.state_dir, scan_id, wanted)


def test_a_refused_capture(clinic: Clinic) -> None:
    with pytest.raises(NothingToExport):
        download(clinic.state_dir, clinic.refused(), Format.DICOM)


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        download(tmp_path, "a", Format.DICOM)


def test_a_process_that_takes_too_long(clinic: Clinic) -> None:
    with pytest.raises(ExportFailed, match="too long"):
        download(clinic.state_dir, clinic.scan(), Format.DICOM, timeout_s=0.0)


def test_the_agent_keeps_its_memory() -> None:
    """What the agent imports for all this brings none of the heavy libraries."""
    code = (
        "import agent.standards.download, agent.standards.folder, agent.standards.commands, sys;"
        "print([name for name in ('highdicom', 'pydicom', 'fhir', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
