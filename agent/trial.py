"""A bundle on trial: when the engine that runs it is fit to answer, when it has proved itself, when it has failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engines.bundle import Bundle
from engines.installed.activation import Installed
from engines.ladder import Ladder

PROBATION_S: Final = 60.0
"""How long a provisional bundle must answer without a fault before it is committed."""
PATIENCE_S: Final = 900.0
"""How long the upper engines of a new bundle may take (TensorRT compiles for minutes) before the lower ones will do."""
FAULTS_WHEN_NEW: Final = 3
"""Failed starts of a new bundle's last engine that end its trial; a wrong golden image ends it at once."""
FAULTS_AT_WORK: Final = 2
"""Faults during probation that do: fewer than make the analysts refuse a capture."""


@dataclass(frozen=True)
class Engine:
    """A bundle and the ladder that runs it; ``installed`` is None for a bundle that the settings name."""

    bundle: Bundle
    ladder: Ladder
    installed: Installed | None


@dataclass
class Trial:
    """A bundle on its way into use."""

    engine: Engine
    installed: Installed
    provisional: bool
    """False where it was committed before (after ``engine rollback``): it then needs no probation."""
    since: float
    """When it was begun; once it answers, when that began."""
    answers: bool = False
    faults_before: int = 0
    """Faults of its last engine before it answered."""
    fallback: Engine | None = None
    """What answered before it."""


def faults(ladder: Ladder) -> int:
    """Faults of the ladder's last engine so far: the one that must work, as the others have those below them."""
    return int(getattr(ladder.rungs[-1].runner, "faults", 0))


def failing(ladder: Ladder, faults_allowed: int) -> str | None:
    """Why a ladder's last engine is not to be relied on, if so: a wrong golden image, or too many faults."""
    last = ladder.rungs[-1].runner
    why: str | None = getattr(last, "last_failure", None)
    if why is None:
        return None
    return why if faults(ladder) >= faults_allowed or (why.startswith("golden image") and not last.ready) else None


def behind(new: Ladder, old: Ladder) -> bool:
    """Whether the old ladder has an engine ready that the new one has not ready yet."""
    return any(a.runner.ready and not b.runner.ready for a, b in zip(old.rungs, new.rungs, strict=False))
