"""SQLite's version, and that nobody but the agent has the database open for writing (F09)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.doctor.finding import Check, Finding, failed, ok, warning
from agent.doctor.place import Place
from agent.records import sqlite_version
from agent.records.opening import DATABASE, LOCK

_STOP: Final = "end that program; read with dermascan scans instead, and never open the file with anything else"


def look(place: Place) -> Iterator[Finding]:
    """An old version alone harms nobody: the agent writes and checkpoints by one connection. Another writer would."""
    version = sqlite_version.running()
    strangers = [pid for pid in writers(place.root / "proc", place.state_dir) if pid != _agent(place.state_dir)]
    for pid in strangers:
        if sqlite_version.is_safe(version):
            yield warning(f"Another program (process {pid}) has the agent's database open for writing.", _STOP)
        else:
            yield failed(
                f"Another program (process {pid}) has the agent's database open for writing, and this SQLite "
                f"({_text(version)}) can lose answers then.",
                _STOP,
            )
    if sqlite_version.is_safe(version):
        yield ok(sqlite_version.explain(version))
    elif not strangers:
        yield ok(
            f"SQLite {_text(version)} has the checkpoint fault of versions before 3.51.3. The agent works around it: "
            "nothing is to be done, so long as no other program writes to the database."
        )


def writers(proc: Path, state_dir: Path) -> list[int]:
    """Processes that have the database open for writing, as far as this user may see."""
    files = {os.path.realpath(state_dir / f"{DATABASE}{suffix}") for suffix in ("", "-wal")}
    found = set()
    for link in proc.glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) not in files:
                continue
            info = (link.parent.parent / "fdinfo" / link.name).read_text(encoding="ascii")
        except OSError:
            continue
        flags = next((line.split()[1] for line in info.splitlines() if line.startswith("flags:")), "0")
        if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
            found.add(int(link.parent.parent.name))
    return sorted(found - {os.getpid()})


def _agent(state_dir: Path) -> int | None:
    try:
        return int((state_dir / LOCK).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _text(version: sqlite_version.Version) -> str:
    return ".".join(map(str, version))


CHECK = Check(
    name="sqlite",
    title="SQLite",
    looks_at="the version of the SQLite library, and which processes have the database open for writing",
    why="SQLite 3.7.0 to 3.51.2 can lose committed answers when two programs write and checkpoint at once.",
    look=look,
)
