"""Checks that hang, crash, raise or are well: for the examination's tests, which run them in its own process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from agent.doctor.finding import Check, Finding, Kind, Mend, failed, ok, warning
from agent.doctor.place import Place


def _well(_place: Place) -> Iterator[Finding]:
    yield ok("All is well here.")


def _hang(_place: Place) -> Iterator[Finding]:
    threading.Event().wait()
    yield ok("never")


def _hang_in_the_kernel(place: Place) -> Iterator[Finding]:
    (place.config_file.parent / "pipe").open("rb").close()  # nobody ever writes
    yield ok("never")


def _raise(_place: Place) -> Iterator[Finding]:
    raise RuntimeError("this\ncheck is broken")


def _crash(_place: Place) -> Iterator[Finding]:
    os._exit(11)


def _chatter(_place: Place) -> Iterator[Finding]:
    print("a library says something")
    yield warning("It says something.", "nothing")


def _open(place: Place) -> Iterator[Finding]:
    path = place.config_file.parent / "secret"
    if Path(path).stat().st_mode & 0o077:
        yield failed("It is open.", f"run: chmod 600 {path}", Mend(Kind.CHMOD, str(path), 0o600))
    else:
        yield ok("It is closed.")


def check(name: str, look: object, limit_s: float = 5.0) -> Check:
    return Check(
        name, name.title(), "something", "It matters.", look, limit_s, "turn it off and on", needs_settings=False
    )  # type: ignore[arg-type]


WELL = check("well", _well)
HANGS = check("hangs", _hang, 0.5)
DEEP = check("deep", _hang_in_the_kernel, 0.5)
RAISES = check("raises", _raise)
CHATTERS = check("chatters", _chatter)
OPEN = check("open", _open)
ALL = (WELL, HANGS, DEEP, RAISES, CHATTERS)
CRASHES = (check("slow", _hang, 20.0), check("crash", _crash))
MENDABLE = (OPEN,)
CHATTERING = (CHATTERS,)
