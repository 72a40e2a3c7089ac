"""Which rows are sealed with which key, sealing those that are not with the newest one, and where the key lies."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config import ConfigError
from agent.records.connection import Connection
from agent.records.results import write_atomically
from agent.records.sealing import NOTE, PATIENT, PLAIN, SEALED, Seal, read_seal

log = logging.getLogger(__name__)

POINTER: Final = "field-key"
"""Under ``state_dir``: where the key file lies. Whoever may read that can read patient fields, and nobody else."""
LOST: Final = "lost-key:"
"""How the names of keys begin in ``keeping`` that an administrator has given up."""


@dataclass(frozen=True)
class Sealed:
    """One look at what is not sealed with the newest key."""

    done: int
    """Rows that were sealed anew."""
    more: bool
    """Whether there may be others."""
    clear: int = 0
    """Of those done, how many held something in the clear: it may still lie between the rows."""
    rewrite: tuple[str, ...] = ()
    """Scans whose result changed: their files are to be written again (the database knows it, should that fail)."""


def keys_in_use(db: Connection) -> frozenset[str]:
    """The ids of all keys that a scan is sealed with."""
    rows = db.execute("SELECT DISTINCT sealed_by FROM scans WHERE sealed_by IS NOT NULL", ()).fetchall()
    return frozenset(str(row[0]) for row in rows)


def lost_keys(db: Connection) -> frozenset[str]:
    """The ids of keys that an administrator has given up."""
    rows = db.execute("SELECT name FROM keeping WHERE name >= ? AND name < 'lost-key;'", (LOST,)).fetchall()
    return frozenset(str(row[0]).removeprefix(LOST) for row in rows)


def refuse_unknown_keys(db: Connection, seal: Seal) -> None:
    """Raise ConfigError where something is sealed with a key that is not here: it would silently be shown no more."""
    missing = sorted(keys_in_use(db) - seal.key_ids - lost_keys(db))
    if missing:
        keys = "key " + missing[0] if len(missing) == 1 else "keys " + ", ".join(missing)
        remedy = (
            f"put that file back (or its old line into the new file); if it is lost for good, so are those fields: "
            f"dermascan rotate-keys --lost {missing[0]}"
        )
        raise ConfigError(
            f"privacy.field_key_file: patient fields in the database are sealed with {keys}, which is not "
            f"{'in this file' if seal.key_id else 'given'}: {remedy}"
        )


def seal_some(db: Connection, seal: Seal, limit: int) -> Sealed:
    """Seal the next rows with the newest key that are not yet: of an older key, or of a time without one."""
    if seal.key_id is None:
        return Sealed(0, more=False)
    lost = json.dumps(sorted(lost_keys(db)))
    rows = db.execute(
        "SELECT seq, scan_id, metadata, result FROM scans WHERE seq IN (SELECT seq FROM scans WHERE sealed_by IS NOT ?"
        " AND coalesce(sealed_by, '') NOT IN (SELECT value FROM json_each(?)) LIMIT ?)",
        (seal.key_id, lost, limit),
    ).fetchall()
    clear = sum(_in_the_clear(row) for row in rows)
    rewrite = [row[1] for row in rows if _seal_row(db, seal, row)]
    notes = db.execute(
        "SELECT verdict_id, note FROM verdicts WHERE note IS NOT NULL AND substr(note, 1, 22) <> ?"
        " AND substr(note, 6, 16) NOT IN (SELECT value FROM json_each(?)) LIMIT ?",
        (f"dse1:{seal.key_id}:", lost, limit - len(rows)),
    ).fetchall()
    for verdict_id, note in notes:
        text = seal.open(note, verdict_id, NOTE)
        again = note if text is None else seal.seal(text, verdict_id, NOTE)
        db.execute("UPDATE verdicts SET note = ? WHERE verdict_id = ?", (again, verdict_id))
    clear += sum(SEALED.fullmatch(note) is None for _, note in notes)
    done = len(rows) + len(notes)
    return Sealed(done, more=done >= limit, clear=clear, rewrite=tuple(rewrite))


def _in_the_clear(row: tuple[int, str, str, str | None]) -> bool:
    _, _, metadata, result = row
    if metadata != "{}" and SEALED.fullmatch(metadata) is None:
        return True
    patient_id = None if result is None else json.loads(result).get(PATIENT)
    return patient_id is not None and SEALED.fullmatch(patient_id) is None


def _seal_row(db: Connection, seal: Seal, row: tuple[int, str, str, str | None]) -> bool:
    """Seal one scan; True where its result changed. What cannot be opened (it was tampered with) stays as it is."""
    seq, scan_id, metadata, result = row
    fields = seal.open_metadata(metadata, scan_id)
    sealed = metadata if not fields and metadata != "{}" else seal.metadata(fields, scan_id)
    again, patient_id = result, None
    if result is not None:
        patient_id = json.loads(seal.open_result(result, scan_id)).get(PATIENT)
        if patient_id is not None:
            again = seal.result(seal.open_result(result, scan_id), scan_id)
    db.execute(
        "UPDATE scans SET metadata = ?, result = ?, sealed_by = ?, patient_index = ?,"
        " files_written = CASE WHEN ? THEN 0 ELSE files_written END WHERE seq = ?",
        (sealed, again, seal.key_id, seal.index(fields.get(PATIENT) or patient_id), again != result, seq),
    )
    return again != result


def point_to(state_dir: Path, key_file: Path | None) -> None:
    """Note where the key file lies, for commands and other processes that read beside the agent."""
    pointer = state_dir / POINTER
    if key_file is None:
        pointer.unlink(missing_ok=True)
        return
    said = os.fsencode(key_file.absolute()) + b"\n"
    if not pointer.exists() or pointer.read_bytes() != said:
        write_atomically(pointer, said)


def seal_of(state_dir: Path) -> Seal:
    """The keys of the agent on a ``state_dir``; PLAIN where it has none, or they are not for us to read."""
    try:
        path = Path(os.fsdecode((state_dir / POINTER).read_bytes().rstrip(b"\n")))
    except OSError:
        return PLAIN
    try:
        return read_seal(path)
    except ConfigError as error:
        log.debug("patient fields stay sealed: %s", error)
        return PLAIN


def is_sealed(db: Connection) -> bool:
    """Whether anything in the database is sealed: notes are only where scans are."""
    return db.execute("SELECT 1 FROM scans WHERE sealed_by IS NOT NULL LIMIT 1", ()).fetchone() is not None
