"""When the demonstration pulls the network's cable, and when it puts it back: counted in answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BEFORE: Final = 2
"""Answers with the network, so that one has seen how it is."""
WITHOUT: Final = 2
"""Answers without it, after the one at which it was pulled."""
EVERY: Final = 14
"""Answers from one pull to the next, where the demonstration goes on and on: two rounds of pictures."""


@dataclass(frozen=True)
class Outages:
    """The plan for a demonstration of ``captures`` pictures, or of endlessly many where None."""

    captures: int | None

    def pulls_at(self, answers: int) -> bool:
        """Whether to pull it at the commit of this answer, counted from 1."""
        first = BEFORE if self.captures is None else min(BEFORE, self.captures - 1)
        if first < 1 or answers < first:
            return False  # a single picture has its event; there is nothing to show with the cable out
        return answers == first if self.captures is not None else (answers - first) % EVERY == 0

    def ends_at(self, answers: int, pulled_at: int) -> bool:
        """Whether to put it back now."""
        return answers >= pulled_at + WITHOUT
