"""One scan in one format: the function that the command, the folder and the local API share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from agent.records.errors import StoreError
from agent.standards.errors import ExportError, ExportFailed
from agent.standards.files import ExportFile
from agent.standards.material import Material, gather


class Format(str, Enum):
    """What a scan can be exported as."""

    DICOM = "dicom"
    FHIR = "fhir"
    JSON = "json"


def export(material: Material, wanted: Format) -> tuple[ExportFile, ...]:
    """Build the files of a scan; the same material gives the same bytes.

    Raises:
        ExportError: there is nothing to export, or it failed. The text names no patient: what the libraries say of a
            failure may (F30), so that only its kind and place are told.
    """
    with _discreetly(material.dossier.scan_id, wanted):
        return _build(material, wanted)


def export_scan(state_dir: Path, scan_id: str, wanted: Format) -> tuple[ExportFile, ...]:
    """Read a scan and build its files; see ``export``.

    Raises:
        ExportError: there is nothing to export, or it failed.
        StoreError: the database cannot be read.
    """
    with _discreetly(scan_id, wanted):
        material = gather(state_dir, scan_id)
    return export(material, wanted)


@contextmanager
def _discreetly(scan_id: str, wanted: Format) -> Iterator[None]:
    try:
        yield
    except (ExportError, StoreError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold values (F30)
        raise ExportFailed(f"scan {scan_id} could not be written as {wanted.value} ({_where(error)})") from None


def _build(material: Material, wanted: Format) -> tuple[ExportFile, ...]:
    if wanted is Format.DICOM:
        from agent.standards.dicom import dicom_files

        return dicom_files(material)
    if wanted is Format.FHIR:
        from agent.standards.fhir import fhir_files

        return fhir_files(material)
    from agent.standards.plain import json_files

    return json_files(material)


def _where(error: Exception) -> str:
    trace = error.__traceback__
    place = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"
