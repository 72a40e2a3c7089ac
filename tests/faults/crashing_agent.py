"""The real agent in a process that kills itself (SIGKILL) at a named step: ``crashing_agent.py CONFIG STEP``.

With the step "none" it is the agent as it is. The steps are put in from outside, by wrapping what the product calls,
so that the product holds no line for this.
"""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = (
    "delivered",
    "before-claim",
    "claim-before-commit",
    "claim-after-commit",
    "after-claim",
    "before-inference",
    "after-inference",
    "before-answer",
    "answer-before-commit",
    "answer-after-commit",
    "after-answer",
    "before-file-sync",
    "before-file-rename",
    "after-file-rename",
    "before-files-written",
    "after-files-written",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal comes at once, but not necessarily before the next line


def before(owner: Any, name: str) -> None:
    """Die when ``owner.name`` is called."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*_args: object, **_keywords: object) -> None:
        die()

    setattr(owner, name, wrapper)


def after(owner: Any, name: str) -> None:
    """Die when a call of ``owner.name`` has done its work (and its future, if it gave one)."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args: object, **keywords: object) -> None:
        result = original(*args, **keywords)
        if hasattr(result, "result"):
            result.result()
        die()

    setattr(owner, name, wrapper)


class DyingConnection(sqlite3.Connection):
    """Dies before or after the COMMIT of a transaction that held a statement with ``marker``."""

    marker = ""
    when = ""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.marker in sql:
            self._marked = True
        commits = sql.lstrip().upper().startswith("COMMIT") and getattr(self, "_marked", False)
        if commits and self.when == "before":
            die()
        cursor = super().execute(sql, *parameters)
        if commits and self.when == "after":
            die()
        return cursor


def arm(step: str) -> None:
    """Put the death in."""
    from agent import analysts, publish
    from agent.records import results
    from agent.records.store import Store
    from engines.ladder import Ladder

    if step in ("claim-before-commit", "claim-after-commit", "answer-before-commit", "answer-after-commit"):
        what, when, _ = step.split("-")
        DyingConnection.marker = "INSERT INTO sightings" if what == "claim" else "INSERT INTO outbox ("
        DyingConnection.when = when
        sqlite3.connect = functools.partial(sqlite3.connect, factory=DyingConnection)  # type: ignore[assignment]
        return
    place: dict[str, tuple[Callable[[Any, str], None], Any, str]] = {
        "delivered": (before, analysts.Analysts, "_carry"),
        "before-claim": (before, Store, "claim"),
        "after-claim": (after, Store, "claim"),
        "before-inference": (before, Ladder, "run"),
        "after-inference": (after, Ladder, "run"),
        "before-answer": (before, Store, "answer"),
        "after-answer": (after, Store, "answer"),
        "before-file-sync": (before, results.os, "fsync"),
        "before-file-rename": (before, Path, "replace"),
        "after-file-rename": (after, Path, "replace"),
        "before-files-written": (before, Store, "files_written"),
        "after-files-written": (after, Store, "files_written"),
    }
    assert publish.write_results is results.write_results
    wrap, owner, name = place[step]
    wrap(owner, name)


def main() -> int:
    config, step = Path(sys.argv[1]), sys.argv[2]
    from agent.cli import main as dermascan

    if step != "none":
        arm(step)
    return dermascan(["run", "--config", str(config)])


if __name__ == "__main__":
    sys.exit(main())
