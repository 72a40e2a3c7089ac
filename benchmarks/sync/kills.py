"""Where a device kills itself (SIGKILL) on an event's way: between commit, publish, PUBACK and acknowledgement.

The steps are put in from outside, by wrapping what the product calls, so that the product holds no line for this.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from tests.faults.crashing_agent import die

STEPS: Final = (
    "before the result's commit",
    "after the result's commit",
    "before publish",
    "after publish",
    "before the broker's PUBACK is noted",
    "after the broker's PUBACK is noted",
    "before the cloud's word is kept",
    "before the commit of the cloud's word",
    "after the commit of the cloud's word",
    "before our PUBACK for the cloud's word",
    "after our PUBACK for the cloud's word",
)
RESULT_MARK: Final = "INSERT INTO outbox ("
WORD_MARK: Final = "UPDATE outbox SET state = 'acknowledged'"


def arm(step: str, nth: int) -> None:
    """Have this process die when it comes to ``step`` the ``nth`` time; never with the step "none".

    Raises:
        ValueError: there is no such step.
    """
    from agent.sync.connection import Connection
    from agent.sync.courier import Courier

    when, _, where = step.partition(" ")
    if step == "none":
        return
    if step not in STEPS:
        raise ValueError(f"{step!r} is no step; there are {STEPS}")
    if where.endswith(("result's commit", "commit of the cloud's word")):
        _at_commit(RESULT_MARK if "result" in where else WORD_MARK, when, nth)
        return
    place: dict[str, tuple[Any, str, Callable[..., bool]]] = {
        "publish": (Connection, "publish", lambda _self, topic, *_a, **_k: topic.endswith("/results")),
        "the broker's PUBACK is noted": (Courier, "taken", _always),
        "the cloud's word is kept": (Courier, "acknowledge", _always),
        "our PUBACK for the cloud's word": (Connection, "acknowledge", _always),
    }
    owner, name, counts = place[where]
    _at_call(owner, name, when, nth, counts)


def _always(*_: object, **__: object) -> bool:
    return True


def _at_call(owner: Any, name: str, when: str, nth: int, counts: Callable[..., bool]) -> None:
    original: Callable[..., Any] = getattr(owner, name)
    numbers = itertools.count(1)

    @functools.wraps(original)
    def wrapper(*arguments: Any, **more: Any) -> Any:
        now = counts(*arguments, **more) and next(numbers) == nth
        if now and when == "before":
            die()
        result = original(*arguments, **more)
        if now:
            die()
        return result

    setattr(owner, name, wrapper)


class _DyingConnection(sqlite3.Connection):
    """Dies at the COMMIT of the ``nth`` transaction that held a statement with ``mark``."""

    mark, when, nth = "", "", 1
    _seen = 0
    _marked = False

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.mark in sql:
            self._marked = True
        dies = False
        if self._marked and sql.lstrip().upper().startswith("COMMIT"):
            self._marked = False
            self._seen += 1
            dies = self._seen == self.nth
        if dies and self.when == "before":
            die()
        cursor = super().execute(sql, *parameters)
        if dies:
            die()
        return cursor


def _at_commit(mark: str, when: str, nth: int) -> None:
    _DyingConnection.mark, _DyingConnection.when, _DyingConnection.nth = mark, when, nth
    sqlite3.connect = functools.partial(sqlite3.connect, factory=_DyingConnection)  # type: ignore[assignment]
