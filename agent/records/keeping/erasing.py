"""Forgetting a patient who asks for it (GDPR, article 17), wherever this device has written of them.

What goes: all that names the patient or shows their skin: the fields of sidecar and DICOM file, the id in answers,
pictures that came by the API, overlays and heat maps, the captures' file names, what people wrote about verdicts,
copies in the export folder, and databases that were put aside. What stays is a scan that nobody can tell whose it is:
its picture's hash, when which model answered what, the verdict's class, and the audit, which who uses a medical device
must be able to show (article 17(3)(b) and (c)). What is listed in ``state_dir/erasures`` is forgotten again when an
older backup is restored, and the next backup replaces those that were made before.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agent.records import giving_up
from agent.records.audit import SHELL, AuditAction
from agent.records.erasures import note_erasures
from agent.records.errors import StoreError
from agent.records.giving_up import Kept
from agent.records.keeping.files import remove_listed, write_again
from agent.records.keeping.patients import scans_of, unfinished_of
from agent.records.store import Store

log = logging.getLogger(__name__)

TOGETHER: Final = 100
FILES_S: Final = 5.0
SCRUB_DUE: Final = "scrub-due"


@dataclass(frozen=True)
class Erased:
    """What came of it."""

    scans: int
    unfinished: int
    """Pictures of the patient that are not answered yet: ask again when they are."""
    exported_files: int
    """Removed from the export folder. Who has fetched others keeps them."""
    databases: int
    """Removed that had been put aside (quarantine, replaced): what they held cannot be taken out of them."""
    scrubbed: bool
    """Whether the database was written anew at once; otherwise the agent does it as soon as nobody reads."""


def erase(store: Store, state_dir: Path, export_folder: Path | None, patient_id: str, who: str) -> Erased:
    """Forget a patient; a second time does nothing more.

    Args:
        store: of the running agent, or opened for this.
        state_dir: of the store.
        export_folder: ``[export] folder``.
        patient_id: as the clinic writes it.
        who: gave the command, for the audit.

    Raises:
        StoreError: the database cannot be read or written; what was not done yet is by asking again.
        OSError: a file cannot be removed; likewise.
    """
    scan_ids = scans_of(state_dir, patient_id, store.seal)
    note_erasures(state_dir, scan_ids)  # first: a backup that is restored after a crash forgets them, too
    for start in range(0, len(scan_ids), TOGETHER):
        some = scan_ids[start : start + TOGETHER]
        _wait_for_files(store, some)
        rewrite = store.change(partial(giving_up.reduce, state_dir=state_dir, scan_ids=some, to=Kept.ERASED)).result()
        remove_listed(store, state_dir)
        write_again(store, rewrite)
    exported = _clear_exports(export_folder, scan_ids)
    databases = _clear_databases(state_dir) if scan_ids else 0
    detail = {"scans": len(scan_ids), "exported_files": exported, "databases": databases}
    store.audit(AuditAction.ERASE, who, SHELL, None, detail).result()
    log.info("a patient was erased: %d scans", len(scan_ids))
    return Erased(len(scan_ids), unfinished_of(state_dir, patient_id, store.seal), exported, databases, scrub(store))


def _wait_for_files(store: Store, scan_ids: Sequence[str]) -> None:
    """Wait until the files of a scan that was just answered are there: else they would come after they were removed."""
    asked = "SELECT count(*) FROM scans WHERE files_written = 0 AND scan_id IN (SELECT value FROM json_each(?))"
    give_up = time.monotonic() + FILES_S
    while store.look(lambda db: db.execute(asked, (json.dumps(scan_ids),)).fetchone()[0]):
        if time.monotonic() > give_up:
            return  # they cannot be written (a full disk), or the agent that would do it does not run
        time.sleep(0.05)


def scrub(store: Store) -> bool:
    """Write the database anew, so that nothing that was deleted is left between its rows, and empty its log.

    False where somebody reads just now: the log still holds what was; it is due then, until `finish_scrubbing` did it.
    """
    store.change(lambda db: giving_up.note(db, SCRUB_DUE, state=True, at="")).result()
    try:
        done = store.alone(_scrub).result()
    except (StoreError, sqlite3.Error) as error:
        log.warning("the database could not be written anew (%s): it is tried again", error)
        return False
    if done:
        store.change(lambda db: giving_up.note(db, SCRUB_DUE, state=False, at="")).result()
    return done


def finish_scrubbing(store: Store) -> None:
    """Scrub, where that is due."""
    if store.look(lambda db: giving_up.noted(db, SCRUB_DUE)):
        scrub(store)


def _scrub(db: sqlite3.Connection) -> bool:
    db.execute("VACUUM")
    busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _clear_exports(folder: Path | None, scan_ids: Sequence[str]) -> int:
    if folder is None or not folder.is_dir():
        return 0
    files = [file for scan_id in scan_ids for file in folder.glob(f"*{scan_id}*") if file.is_file()]
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _clear_databases(state_dir: Path) -> int:
    """Remove databases that were put aside and whose readable rows were carried over or replaced."""
    aside = [path for path in (state_dir / "quarantine").glob("[0-9]*") if (path / "SALVAGED").exists()]
    aside += [path for path in (state_dir / "replaced").glob("[0-9]*") if path.is_dir()]
    for folder in aside:
        shutil.rmtree(folder)
    return len(aside)
