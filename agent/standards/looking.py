"""One look at what is finished, and what of it is not in the export folder yet: written there, each file whole."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.records.errors import StoreError
from agent.records.reading import open_reading
from agent.records.results import write_atomically
from agent.standards.errors import ExportError, NothingToExport, StandardsMissing
from agent.standards.export import Format, export_scan
from agent.standards.files import ExportFile
from agent.standards.horizon import Horizon
from agent.standards.ledger import Finished, Ledger, State

LEDGER_DIR: Final = "export"
"""Under ``state_dir``."""
_LEFTOVER: Final = re.compile(r"\.[0-9a-f]{8}-[0-9a-f-]{27}\.[a-z0-9.]+\.part")
_REVISION: Final = (
    "SELECT seq, scan_id, state, metadata, (SELECT max(seq) FROM verdicts WHERE verdicts.scan_id = scans.scan_id),"
    " (SELECT max(seq) FROM ground_truth WHERE ground_truth.scan_id = scans.scan_id) FROM scans"
    " WHERE state <> 'received' AND kept <> 'erased'"
)
_BY_ID: Final = 200
"""Scans asked for in one statement."""


@dataclass(frozen=True)
class Outcome:
    """What became of one scan in one format."""

    scan_id: str
    format: str
    state: State
    revision: str
    """Of what is said of the scan: the same for a repeat."""
    sentence: str | None = None


@dataclass(frozen=True)
class Wish:
    """What is to be written where."""

    state_dir: Path
    folder: Path
    formats: tuple[Format, ...]


class Trouble(Exception):
    """Nothing can be exported now, whatever the scan: a full disk, a folder that is gone, a library that is missing."""


def finished(state_dir: Path, scan_ids: Sequence[str] | None, within: Horizon | None = None) -> list[Finished]:
    """The finished scans, of those named or of all; oldest first. The database is let go of at once (F08).

    Raises:
        Trouble: it cannot be read.
    """
    try:
        with open_reading(state_dir) as db:
            if scan_ids is None:
                rows = db.execute(f"{_REVISION} ORDER BY seq").fetchall()
            else:
                rows = []
                for start in range(0, len(scan_ids), _BY_ID):
                    some = scan_ids[start : start + _BY_ID]
                    marks = ", ".join("?" * len(some))
                    rows += db.execute(f"{_REVISION} AND scan_id IN ({marks}) ORDER BY seq", some).fetchall()
    except StoreError as error:
        raise Trouble(str(error)) from error
    if within is not None:
        rows = [row for row in rows if row[0] <= within.last_seq and row[0] not in within.unfinished]
    return [Finished(row[1], _revision(*row[2:])) for row in rows]


def _revision(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def open_ledger(wish: Wish, horizon: Horizon) -> Ledger:
    """The ledger, with every format in it that is wished.

    Raises:
        Trouble: it cannot be opened or written.
    """
    try:
        ledger = Ledger(wish.state_dir / LEDGER_DIR)
        ledger.begin_formats(wish.formats, lambda: finished(wish.state_dir, None, horizon))
    except (OSError, sqlite3.Error) as error:
        raise _ledger_trouble(error) from error
    return ledger


def _ledger_trouble(error: Exception) -> Trouble:
    return Trouble(f"the ledger in state_dir/{LEDGER_DIR} cannot be used ({error}): free disk space, or mend its disk")


def clear_leftovers(folder: Path) -> None:
    """Remove what a crash left half written; only files that bear a name of ours."""
    for path in folder.glob(".*.part"):
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def look(wish: Wish, ledger: Ledger, scan_ids: Sequence[str] | None, tell: Callable[[Outcome], None]) -> None:
    """Write what is due; ``tell`` hears of each export.

    Raises:
        Trouble: the rest must wait; nothing is lost.
    """
    missing: str | None = None
    for one in finished(wish.state_dir, scan_ids):
        for wanted in wish.formats:
            try:
                if ledger.due(one, wanted):
                    tell(_export(wish, ledger, one, wanted))
            except StandardsMissing as error:
                missing = str(error)  # the other formats need it not
            except sqlite3.Error as error:
                raise _ledger_trouble(error) from error
            except OSError as error:
                raise Trouble(
                    f"{wish.folder} cannot be written ({error.strerror}): free disk space there, or make the folder "
                    "and let the agent write to it; nothing is lost meanwhile"
                ) from error
            except StoreError as error:
                raise Trouble(str(error)) from error
    if missing is not None:
        raise Trouble(missing)


def _export(wish: Wish, ledger: Ledger, one: Finished, wanted: Format) -> Outcome:
    ledger.begin(one, wanted)
    try:
        files = export_scan(wish.state_dir, one.scan_id, wanted)
        written = _write(wish.folder, files, ledger.files(one.scan_id, wanted))
    except NothingToExport:
        ledger.end(one, wanted, State.NOTHING)
        return Outcome(one.scan_id, wanted.value, State.NOTHING, one.revision)
    except StandardsMissing:
        ledger.put_back(one, wanted)
        raise
    except ExportError as error:
        ledger.end(one, wanted, State.FAILED, sentence=str(error))
        return Outcome(one.scan_id, wanted.value, State.FAILED, one.revision, str(error))
    except (OSError, StoreError):
        ledger.put_back(one, wanted)
        raise
    ledger.end(one, wanted, State.WRITTEN, written)
    return Outcome(one.scan_id, wanted.value, State.WRITTEN, one.revision)


def _write(folder: Path, files: Sequence[ExportFile], before: dict[str, str]) -> dict[str, str]:
    """Write the files that are not what was written last under their name; all names, with their contents' sha256.

    What a receiver has taken away is not put there again: the ledger knows what was written, not the folder.
    """
    if not folder.is_dir():
        # It is never made here: where a share is not mounted, it would be made on the device's own disk.
        raise FileNotFoundError(2, "there is no such folder")
    written = {}
    for file in files:
        digest = hashlib.sha256(file.data).hexdigest()
        if before.get(file.name) != digest:
            write_atomically(folder / file.name, file.data)
        written[file.name] = digest
    return written
