"""What an installation did, step by step, for people and as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from enum import Enum


class InstallError(Exception):
    """It cannot go on: one sentence with what happened and what to do. What was done so far can be done again."""


class SettingsRefused(InstallError):
    """The device's settings do not fit this release; everything is as it was."""


class Outcome(str, Enum):
    """What became of a step."""

    MADE = "made"
    CHANGED = "changed"
    KEPT = "kept"
    REMOVED = "removed"
    NOTED = "noted"
    """Nothing was done; somebody should read it."""


@dataclass(frozen=True)
class Entry:
    """A step: what became of which thing."""

    outcome: Outcome
    what: str


@dataclass
class Journal:
    """Collects the steps; prints those that changed something as they happen, unless told to be quiet."""

    quiet: bool = False
    entries: list[Entry] = field(default_factory=list)

    def add(self, outcome: Outcome, what: str) -> None:
        """A step was done."""
        self.entries.append(Entry(outcome, what))
        if not self.quiet and outcome is not Outcome.KEPT:
            print(f"  {outcome.value:<8} {what}", flush=True)

    def saying(self, sentence: str) -> None:
        """Something that takes a while begins."""
        if not self.quiet:
            print(f"  ...      {sentence}", file=sys.stderr, flush=True)

    @property
    def changed(self) -> bool:
        """Whether anything is different from before."""
        return any(entry.outcome not in (Outcome.KEPT, Outcome.NOTED) for entry in self.entries)

    def as_json(self) -> list[dict[str, str]]:
        """For ``--json``."""
        return [asdict(entry) for entry in self.entries]
