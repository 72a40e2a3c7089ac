"""The list of scans that were erased, beside the database: what an older copy of it still has is forgotten again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.records.results import FILE_MODE, sync_folder

ERASURES: Final = "erasures"
"""Under ``state_dir``: one id on each line; nothing in it is of a patient."""


def note_erasures(state_dir: Path, scan_ids: Sequence[str]) -> None:
    """Add scans to the list of what was erased; durable when this returns."""
    known = set(erased(state_dir))
    new = [scan_id for scan_id in scan_ids if scan_id not in known]
    if not new:
        return
    handle = os.open(state_dir / ERASURES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    try:
        os.write(handle, "".join(f"{scan_id}\n" for scan_id in new).encode("ascii"))
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(state_dir)


def erased(state_dir: Path) -> list[str]:
    """The scans that were erased, in that order."""
    try:
        return (state_dir / ERASURES).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []
