"""Leftovers: temporary files that an interruption left and nobody will use any more."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.doctor.finding import Check, Finding, Kind, Mend, ok, warning
from agent.doctor.place import Place

STALE_S: Final = 24 * 3600.0
"""A compilation writes for tens of minutes on a small device; nothing else writes for longer than seconds."""
_FILES: Final = ("results/.*.part", "spool/.*.part", "access/.*.part", "calibration/*/.*.part", "quarantine/*/.*.part")
_FOLDERS: Final = ("cache/plans/.working.*", "cache/plans/.old.*")
_STAGING: Final = ".staging-*"
MOST: Final = 50


def look(place: Place) -> Iterator[Finding]:
    """Only what carries the names that we ourselves give, and is a day old."""
    found = sorted(stale(place))
    for path in found[:MOST]:
        mend = Mend(Kind.REMOVE, str(path))
        yield warning(f"{path} was left by an interruption.", f"run: sudo {mend.command}", mend)
    if len(found) > MOST:
        yield warning(f"There are {len(found) - MOST} more such files.", "run: sudo dermascan doctor --fix, again")
    if not found:
        yield ok("No interruption left anything behind.")


def stale(place: Place) -> Iterator[Path]:
    """Our temporary files and folders that are older than a day; a clock that went back makes none older (F16)."""
    now = place.now().timestamp()
    places = [(place.state_dir, pattern) for pattern in (*_FILES, *_FOLDERS)]
    if place.config.inference.models is not None:
        places.append((place.config.inference.models, _STAGING))
    for folder, pattern in places:
        for path in folder.glob(pattern) if folder.is_dir() else ():
            try:
                status = path.lstat()
            except OSError:
                continue
            right = stat.S_ISREG if pattern in _FILES else stat.S_ISDIR
            if right(status.st_mode) and now - status.st_mtime > STALE_S:
                yield path


CHECK = Check(
    name="leftovers",
    title="Leftovers",
    looks_at="temporary files and folders of the agent's own that are more than a day old",
    why="They take room, and are of no use to anybody.",
    look=look,
)
