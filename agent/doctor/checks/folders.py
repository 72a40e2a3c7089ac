"""The agent's own folders: there, the agent's to write, and closed to everybody else."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.doctor.finding import Check, Finding, Kind, Mend, failed, ok
from agent.doctor.place import Place, octal
from agent.records.results import FOLDER_MODE

_PRIVATE: Final = ("results", "calibration", "spool", "quarantine", "access", "analysing", "cache")
"""Under ``state_dir``: patients' data, or what is believed without a signature."""


def look(place: Place) -> Iterator[Finding]:
    """A folder is looked at by its own mode and owner, and by those above it."""
    found = [*_state(place), *_believed(place)]
    yield from found or [ok(f"{place.state_dir} and the folders of keys and models are as they should be.")]


def _state(place: Place) -> Iterator[Finding]:
    folder = place.state_dir
    try:
        status = folder.stat()
    except FileNotFoundError:
        yield failed(
            f"{folder} is missing: the agent has nowhere to keep answers.",
            f"run: sudo install -d -m 750 -o {place.user.name} {shlex.quote(str(folder))}",
            Mend(Kind.MAKE_FOLDER, str(folder), FOLDER_MODE),
        )
        return
    if not stat.S_ISDIR(status.st_mode):
        yield failed(f"{folder} is no folder.", "move it away, or name another [device] state_dir")
        return
    if not place.user.may(status, 0o7):
        remedy = f"run: sudo chown -R {place.user.name} {shlex.quote(str(folder))}"
        yield failed(f"The agent's user ({place.user.name}) may not write to {folder}.", remedy)
    yield from _open_to_others(folder, status, 0o007)
    yield from _swapped_from_above(folder)
    for name in _PRIVATE:
        inner = folder / name
        if not os.path.lexists(inner):
            continue
        entry = inner.lstat()
        if stat.S_ISLNK(entry.st_mode):
            yield failed(
                f"{inner} is a link, and should be a folder of the agent's own.",
                f"look where it leads (ls -l {shlex.quote(str(inner))}), and replace it by a folder",
            )
        elif entry.st_uid != status.st_uid:
            yield failed(
                f"{inner} does not belong to {place.user.name}.",
                f"run: sudo chown -R {place.user.name} {shlex.quote(str(inner))}",
            )
        else:
            yield from _open_to_others(inner, entry, 0o007)


def _believed(place: Place) -> Iterator[Finding]:
    """Who can write where keys and models lie decides what answers."""
    inference = place.config.inference
    for folder in (inference.trust_dir, inference.models, inference.bundle):
        if folder is not None and folder.is_dir():
            yield from _open_to_others(folder, folder.stat(), 0o002)
            yield from _swapped_from_above(folder)


def _open_to_others(folder: Path, status: os.stat_result, bits: int) -> Iterator[Finding]:
    """``bits``: what everybody must not be able to do."""
    if not status.st_mode & bits:
        return
    may = "change what is in" if status.st_mode & 0o002 else "look into"
    mode = stat.S_IMODE(status.st_mode) & ~bits
    yield failed(
        f"Everybody on this machine may {may} {folder} (mode {octal(status)}).",
        f"run: sudo chmod {mode:o} {shlex.quote(str(folder))}",
        Mend(Kind.CHMOD, str(folder), mode),
    )


def _swapped_from_above(folder: Path) -> Iterator[Finding]:
    """A folder above that everybody can write, without the sticky bit: any of them can put another one in its place."""
    for above in folder.absolute().parents:
        status = above.stat()
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH
            yield failed(
                f"Everybody on this machine may put another folder in the place of {folder}: {above} is open to all.",
                f"run: sudo chmod {mode:o} {shlex.quote(str(above))}",
            )


CHECK = Check(
    name="folders",
    title="Agent's folders",
    looks_at="state_dir and what is in it, the folders of trusted keys and of models: owner and mode",
    why="They hold patients' data, and what the agent believes: only the agent may write there.",
    look=look,
    hung="a disk or a share does not answer: restart the device",
)
