"""The files of scans of which less is kept: removed, or written again, after the database says so."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from agent.records import giving_up
from agent.records.results import sync_folder, write_results
from agent.records.store import Store

log = logging.getLogger(__name__)

TOGETHER: Final = 200
_OURS: Final = ("results/", "uploads/")


def remove_listed(store: Store, state_dir: Path) -> int:
    """Remove the files that the database says are to go; returns the bytes given back. A crash is made up for later.

    Raises:
        OSError: one cannot be removed (a broken disk); the list keeps it.
    """
    freed = 0
    while listed := store.look(lambda db: giving_up.removals(db, TOGETHER)):
        freed += sum(_remove(state_dir, path) for path in listed)
        for folder in {(state_dir / path).parent for path in listed}:
            if folder.is_dir():
                sync_folder(folder)
        store.change(partial(giving_up.removed, paths=listed)).result()
    return freed


def write_again(store: Store, scan_ids: Iterable[str]) -> int:
    """Write results' files as the database has them now, without pictures; returns the bytes given back.

    What cannot be written now is at the next start: the database knows it.
    """
    freed = 0
    for scan_id in scan_ids:
        file = store.results_folder / f"{scan_id}.json"
        before = _size(file)
        try:
            freed += before - write_results(store.results_folder, scan_id, store.result_bytes(scan_id), None)
        except OSError as error:
            log.warning("scan %s: its result file could not be written again (%s)", scan_id, error.strerror)
            continue
        store.files_written(scan_id).result()
    return freed


def sizes(files: Sequence[Path]) -> int:
    """Bytes of files, of those that are there."""
    return sum(map(_size, files))


def _remove(state_dir: Path, path: str) -> int:
    if not path.startswith(_OURS) or ".." in path.split("/"):
        log.error("%s: is listed to be removed and is none of ours: left where it is", path)
        return 0
    file = state_dir / path
    size = _size(file)
    file.unlink(missing_ok=True)
    return size


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0
