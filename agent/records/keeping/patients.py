"""A patient's scans, and all that is kept of them, for who asks what is known of them (GDPR, articles 15 and 20)."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from agent.records import ground_truth, verdicts
from agent.records.reading import open_reading
from agent.records.results import RESULTS_DIR
from agent.records.sealed_rows import seal_of
from agent.records.sealing import Seal, same_patient
from agent.records.sidecars import read_kept_sidecar
from agent.records.space import UPLOADS_DIR

README: Final = """What this device keeps of one patient.

scans.json   for each scan: when it came, what was answered, the patient's fields, verdicts, histopathology
overlays/    the pictures that were shown to the clinician, by scan
pictures/    the captures, where they are still where they lay

Everything here names the patient: treat it as a medical record.
"""
_LARGEST_PICTURE: Final = 512 * 1024 * 1024


def scans_of(state_dir: Path, patient_id: str, seal: Seal | None = None) -> list[str]:
    """The ids of a patient's finished scans, oldest first; beside the agent, or without it.

    Sealed rows are found by their index, others by what stands in them, pictures that came by the API by their sidecar.

    Args:
        state_dir: of the agent.
        patient_id: as the clinic writes it.
        seal: the keys; those that this process may read where None.

    Raises:
        StoreError: the database cannot be read.
    """
    seal = seal_of(state_dir) if seal is None else seal
    wanted = same_patient(patient_id)
    marks = json.dumps(seal.indexes(wanted))
    with open_reading(state_dir) as db:
        found = {
            row[0]: row[1]
            for row in db.execute(
                "SELECT seq, scan_id FROM main.scans WHERE state <> 'received'"
                " AND patient_index IN (SELECT value FROM json_each(?))",
                (marks,),
            )
        }
        found |= {seq: scan_id for seq, scan_id, said in _plain(db) if same_patient(str(said or "")) == wanted}
        for picture in _uploads_of(state_dir, wanted, seal):
            row = db.execute(
                "SELECT seq, scan_id FROM main.scans WHERE path_bytes = ? AND state <> 'received'",
                (os.fsencode(picture),),
            ).fetchone()
            if row is not None:
                found[row[0]] = row[1]
    return [scan_id for _, scan_id in sorted(found.items())]


def unfinished_of(state_dir: Path, patient_id: str, seal: Seal) -> int:
    """How many pictures of a patient are not answered yet, of those that came by the API."""
    wanted = same_patient(patient_id)
    with open_reading(state_dir) as db:
        return sum(
            db.execute(
                "SELECT 1 FROM main.scans WHERE path_bytes = ? AND state <> 'received'", (os.fsencode(picture),)
            ).fetchone()
            is None
            for picture in _uploads_of(state_dir, wanted, seal)
        )


def captures_of(state_dir: Path, scan_ids: list[str]) -> list[Path]:
    """Where the captures of scans lie that are not the agent's own files, of those that are there."""
    found = []
    with open_reading(state_dir) as db:
        for scan_id in scan_ids:
            rows = db.execute("SELECT path_bytes FROM sightings WHERE scan_id = ?", (scan_id,)).fetchall()
            found += [Path(os.fsdecode(row[0])) for row in rows]
    return sorted({path for path in found if state_dir not in path.parents and path.exists()})


def export(state_dir: Path, scan_ids: list[str], target: Path, seal: Seal | None = None) -> int:
    """Write all that is kept of scans into a ZIP file that only its owner may read; returns how many there are.

    Raises:
        OSError: it cannot be written, or is there already.
        StoreError: the database cannot be read.
    """
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            told = []
            for scan_id in scan_ids:
                scan = _told(state_dir, scan_id, seal)
                overlay = state_dir / RESULTS_DIR / f"{scan_id}.png"
                if overlay.exists():
                    archive.writestr(f"overlays/{scan_id}.png", overlay.read_bytes())
                scan["picture"] = _add_picture(archive, scan_id, scan.pop("path_bytes"), scan["image_sha256"])
                told.append(scan)
            archive.writestr("scans.json", json.dumps({"scans": told}, indent=2, ensure_ascii=False) + "\n")
            archive.writestr("README.txt", README)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return len(scan_ids)


def _plain(db: sqlite3.Connection) -> Iterator[tuple[int, str, Any]]:
    """The finished scans that are not sealed, each with whom it names."""
    # The answer says it too, and is long: it is asked only where the sidecar's fields are not there.
    yield from db.execute(
        "SELECT seq, scan_id, CASE WHEN metadata <> '{}' THEN json_extract(metadata, '$.patient_id')"
        " WHEN state = 'answered' THEN json_extract(result, '$.patient_id') END FROM main.scans"
        " WHERE sealed_by IS NULL AND state <> 'received'"
    )


def _uploads_of(state_dir: Path, wanted: str, seal: Seal) -> Iterator[Path]:
    """Pictures that came by the API whose sidecar names a patient."""
    for sidecar in sorted((state_dir / UPLOADS_DIR).glob("*/*.json")):
        said = read_kept_sidecar(sidecar.with_suffix(".jpg"), seal).patient_id
        if said is not None and same_patient(said) == wanted:
            yield from (path for path in sidecar.parent.glob(f"{sidecar.stem}.*") if path.suffix in {".jpg", ".png"})


def _told(state_dir: Path, scan_id: str, seal: Seal | None) -> dict[str, Any]:
    columns = (
        "scan_id, state, image_sha256, path, path_bytes, dermoscope_id, received_at, finished_at, clock_trusted,"
        " reason, sentence, kept, metadata, result"
    )
    with open_reading(state_dir, seal) as db:
        row = db.execute(f"SELECT {columns} FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()  # noqa: S608 - ours
        given = verdicts.of_scan(db, scan_id)
        truths = ground_truth.of_scan(db, scan_id)
    scan = dict(zip(columns.split(", "), row, strict=True))
    scan["metadata"] = json.loads(scan["metadata"])
    scan["result"] = None if scan["result"] is None else json.loads(scan["result"])
    scan["clock_trusted"] = bool(scan["clock_trusted"])
    return scan | {"verdicts": [asdict(one) for one in given], "ground_truths": [asdict(one) for one in truths]}


def _add_picture(archive: zipfile.ZipFile, scan_id: str, path_bytes: bytes, sha256: str | None) -> str | None:
    """Add the capture, where what lies there is still what was answered; its name in the archive."""
    path = Path(os.fsdecode(path_bytes))
    try:
        if sha256 is None or not path.is_file() or path.stat().st_size > _LARGEST_PICTURE:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != sha256:
        return None
    name = f"pictures/{scan_id}{path.suffix.lower()}"
    archive.writestr(zipfile.ZipInfo(name), data)
    return name
