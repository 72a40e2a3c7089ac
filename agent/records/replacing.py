"""The exchange of the database for one that was made ready beside it.

Each step may be the last before a power cut: whoever opens the database next goes on where it broke off (F11).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.records.results import sync_folder

READY: Final = "dermascan.db.restored"
"""Under ``state_dir``: a database that is whole, and is to be the one in use."""
REPLACED: Final = "replaced"
"""Under ``state_dir``: what was in use before, in numbered folders."""
DATABASE: Final = "dermascan.db"
"""Under ``state_dir``: the one in use."""
_GOING_ON: Final = "GOING-ON"


def take_into_use(state_dir: Path) -> Path | None:
    """Put a ready database in place of the one in use; where that lies now, None where there was none.

    Does nothing where none is ready. The caller holds the ``StateLock``.
    """
    ready = state_dir / READY
    if not ready.exists():
        return None
    database = state_dir / DATABASE
    folder = next((mark.parent for mark in (state_dir / REPLACED).glob(f"*/{_GOING_ON}")), None)
    if folder is not None and database.exists() and (folder / DATABASE).exists():
        (folder / _GOING_ON).unlink()  # of an exchange before, which came to its end
        folder = None
    if folder is None:
        taken = [int(path.name) for path in (state_dir / REPLACED).glob("*") if path.name.isdecimal()]
        folder = state_dir / REPLACED / str(max(taken, default=0) + 1)
        folder.mkdir(mode=0o750, parents=True)
        (folder / _GOING_ON).touch()
        for place in (folder, folder.parent, state_dir):
            sync_folder(place)
    # The log goes with its database: beside another one it would be taken for that one's.
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = database.with_name(database.name + suffix)
        if file.exists():
            file.rename(folder / file.name)
            sync_folder(folder)
            sync_folder(state_dir)
    ready.rename(database)
    sync_folder(state_dir)
    (folder / _GOING_ON).unlink()
    sync_folder(folder)
    if not any(folder.iterdir()):
        folder.rmdir()
        return None
    return folder
