"""Where damaged databases are kept for whoever looks into it (F10): ``state_dir/quarantine/<n>/``.

A folder holds the database with its log, ``REASON`` (why it is here) and, once what could be read of it is in the new
database, ``SALVAGED``. A crash in between leaves a folder without ``SALVAGED``, and the next start goes on with it.
No times in the names: the clock of a damaged device may be wrong too (F16).
"""

from __future__ import annotations

from pathlib import Path

from agent.records.results import sync_folder, write_atomically

QUARANTINE = "quarantine"


def pending(state_dir: Path) -> Path | None:
    """The newest folder whose salvage did not come to its end."""
    folders = sorted(_folders(state_dir), key=lambda folder: int(folder.name))
    return next((folder for folder in reversed(folders) if not (folder / "SALVAGED").exists()), None)


def move_in(database: Path, reason: str) -> Path:
    """Move a database with its log out of the way and return the folder it lies in. Any of the files may be missing."""
    state_dir = database.parent
    folder = pending(state_dir)
    if folder is None or (database.exists() and (folder / database.name).exists()):
        taken = [int(known.name) for known in _folders(state_dir)]
        folder = state_dir / QUARANTINE / str(max(taken, default=0) + 1)
        folder.mkdir(mode=0o750, parents=True)
        sync_folder(folder.parent)
        sync_folder(state_dir)
        write_atomically(folder / "REASON", f"{reason}\n".encode())
    # The database first: were its log moved first and the rest not, an older state would open as sound.
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = database.with_name(database.name + suffix)
        if file.exists():
            file.rename(folder / file.name)
            sync_folder(folder)
            sync_folder(state_dir)
    return folder


def finish(folder: Path, told: str) -> None:
    """Note that what could be read is carried over."""
    write_atomically(folder / "SALVAGED", f"{told}\n".encode())


def _folders(state_dir: Path) -> list[Path]:
    return [folder for folder in (state_dir / QUARANTINE).glob("*") if folder.is_dir() and folder.name.isdecimal()]
