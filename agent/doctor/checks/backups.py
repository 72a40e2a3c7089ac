"""Backups: whether there is a copy of the database, and how old the newest one is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from agent.doctor.checks.sandbox import read_unit, unit_files
from agent.doctor.finding import Check, Finding, ok, skipped, warning
from agent.doctor.place import Place
from agent.records.keeping.backup import BACKUPS, BackupError, described, listed
from agent.records.opening import DATABASE

SERVICE: Final = "dermascan-backup.service"
TIMER: Final = "dermascan-backup.timer"
INTERVAL: Final = timedelta(days=1)
"""Of the timer."""
MARGIN: Final = timedelta(hours=12)
"""A device that is off at night makes its copy up in the morning; one night without a copy is told by the afternoon."""
AHEAD: Final = timedelta(hours=1)
_TIMER: Final = f"that it is made every night: sudo systemctl enable --now {TIMER}"


def look(place: Place) -> Iterator[Finding]:
    """The newest copy, in the folder that the nightly service writes to."""
    if not (place.state_dir / DATABASE).exists():
        yield skipped("There is no database yet, so that there is nothing to copy.")
        return
    folder = folder_of(place)
    now = f"make one now: sudo dermascan backup --config {shlex.quote(str(place.config_file))}"
    if folder != place.state_dir / BACKUPS:
        now += f" --to {shlex.quote(str(folder))}"
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        yield skipped(f"{folder} cannot be looked at by this user. Run it as root (sudo).")
        return
    copies = listed(folder)
    if not copies:
        yield warning(f"There is no copy of the database in {folder}.", f"{now}; {_TIMER}")
        return
    told = f"{len(copies)} copies of the database lie in {folder}" if len(copies) > 1 else f"{copies[0]} is a copy"
    if not place.clock_trusted:
        yield ok(f"{told}; how old they are is not judged, as the clock cannot be right.")
        return
    age = place.now() - _made_at(copies[-1])
    if age > INTERVAL + MARGIN:
        yield warning(
            f"The newest copy of the database ({copies[-1]}) is {_words(age)} old; one is made every night.",
            f"look why: journalctl -u {SERVICE} -n 50; {now}; {_TIMER}",
        )
    elif age < -AHEAD:
        yield warning(
            f"The newest copy of the database ({copies[-1]}) bears a time that is still to come: the clock was wrong.",
            f"{now}; then see 'Clock'",
        )
    else:
        yield ok(f"{told}; the newest is {_words(max(age, timedelta()))} old.")


def folder_of(place: Place) -> Path:
    """Where the nightly service keeps its copies: a drop-in may name a folder with ``--to``."""
    commands = read_unit(unit_files(place.root, SERVICE)).get("ExecStart", [])
    words = shlex.split(commands[-1]) if commands else []
    for position, word in enumerate(words):
        if word == "--to" and position + 1 < len(words):
            return Path(words[position + 1])
        if word.startswith("--to="):
            return Path(word.removeprefix("--to="))
    return place.state_dir / BACKUPS


def _made_at(copy: Path) -> datetime:
    try:
        made = described(copy)
    except (BackupError, OSError):
        made = None
    if made is not None:
        return datetime.fromisoformat(made.made_at.replace("Z", "+00:00"))
    return datetime.fromtimestamp(copy.stat().st_mtime, timezone.utc)


def _words(age: timedelta) -> str:
    hours = int(age.total_seconds() // 3600)
    return f"{hours} hours" if hours < 72 else f"{hours // 24} days"


CHECK = Check(
    name="backups",
    title="Backups",
    looks_at="the newest copy of the database, where the nightly service keeps them: that there is one, and its age",
    why="Without a copy, a mistake or a dead disk takes every answer and every verdict with it.",
    look=look,
    hung="the folder of the backups does not answer: see to the share or the disk that it lies on",
)
