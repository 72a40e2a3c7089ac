"""A scan's export for someone who asks for it now, through the local API: bytes, at little cost to the agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.records.errors import StoreError
from agent.standards import errors
from agent.standards.errors import ExportError, ExportFailed
from agent.standards.export import Format, export_scan
from agent.standards.files import ExportFile, zipped
from agent.standards.process import Child, ChildEnded

TIMEOUT_S: Final = 30.0
_NICENESS: Final = 5
"""Somebody waits for it, but a patient's answer comes first."""
_ERRORS: Final = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}


@dataclass(frozen=True)
class Download:
    """One body to send. Its name holds nothing of the patient."""

    name: str
    content_type: str
    data: bytes


def download(state_dir: Path, scan_id: str, wanted: Format, timeout_s: float = TIMEOUT_S) -> Download:
    """A scan's export as one body: FHIR and JSON as they are, DICOM's files as a ZIP archive.

    DICOM is built in a process of its own, which takes a second or two: its libraries would stay in the agent's memory.

    Raises:
        ExportError: UnknownExport, NotFinished, NothingToExport, StandardsMissing or ExportFailed, with a sentence.
        StoreError: the database cannot be read.
    """
    if wanted is not Format.DICOM:
        (file,) = export_scan(state_dir, scan_id, wanted)
        return Download(file.name, file.content_type, file.data)
    try:
        files = _apart(state_dir, scan_id, wanted, timeout_s)
    except ChildEnded as error:
        raise ExportFailed(f"scan {scan_id} could not be written as {wanted.value}: {error}; try again") from error
    return Download(f"{scan_id}.{wanted.value}.zip", "application/zip", zipped(files))


def _apart(state_dir: Path, scan_id: str, wanted: Format, timeout_s: float) -> list[ExportFile]:
    child = Child(
        {"state_dir": str(state_dir.absolute()), "scan_id": scan_id, "format": wanted.value, "niceness": _NICENESS}
    )
    try:
        heard = child.hear(timeout_s)
        if "error" in heard:
            kind = _ERRORS.get(heard["error"], StoreError)
            if issubclass(kind, (ExportError, StoreError)):
                raise kind(heard["sentence"])
        return [
            ExportFile(one["name"], child.hear_bytes(one["size"], timeout_s), one["type"]) for one in heard["files"]
        ]
    finally:
        child.end()
