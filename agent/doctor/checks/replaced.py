"""Replaced databases: what restores put aside, which nobody but a person may remove."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from agent.doctor.finding import Check, Finding, ok, skipped, warning
from agent.doctor.place import Place
from agent.records.replacing import REPLACED
from agent.records.space import MIB

OLD: Final = timedelta(days=30)
"""Long enough to give those verdicts again that are only in there; patients' data are not kept for nothing (GDPR 5)."""
MUCH: Final = 0.1
"""Of ``[store] quota_mb``: what was put aside does not count against the quota, so that nothing else bounds it."""


def look(place: Place) -> Iterator[Finding]:
    """How many, how large, how old; never for ``--fix``, since nobody else has what is only in them."""
    folder = place.state_dir / REPLACED
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        yield skipped(f"{folder} cannot be looked at by this user. Run it as root (sudo).")
        return
    aside = [path for path in folder.glob("*") if path.is_dir() and path.name.isdecimal()]
    if not aside:
        yield ok("No database that a restore replaced is kept.")
        return
    size = sum(file.stat().st_size for path in aside for file in path.rglob("*") if file.is_file())
    age = max(place.now() - _put_there(path) for path in aside)
    many = f"{len(aside)} databases that restores replaced lie" if len(aside) > 1 else "A replaced database lies"
    told = f"{many} in {folder} ({size / MIB:.0f} MB)"
    remedy = (
        "give verdicts again that are only in there, where they matter ('Restore' in operations-data.md); then: "
        f"sudo rm -r {shlex.quote(str(folder))}"
    )
    wrong = []
    if place.clock_trusted and age > OLD:
        wrong.append(warning(f"{told}, the oldest for {age.days} days: patients' data that nothing uses.", remedy))
    if size > MUCH * place.config.store.quota_mb * MIB:
        sentence = f"{told}: more than a tenth of the room that the agent may take, and none of it is counted there."
        wrong.append(warning(sentence, remedy))
    yield from wrong or [ok(f"{told}.")]


def _put_there(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)


CHECK = Check(
    name="replaced",
    title="Replaced databases",
    looks_at="state_dir/replaced: how many databases a restore put aside there, how large they are, and for how long",
    why="They hold patients' data that nothing uses any more, and take room that answers need.",
    look=look,
)
