"""Asking what may never answer: a share that is away, a broker behind a black hole, a program that hangs."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
_PROGRAM_S: Final = 10.0


class TooLong(Exception):
    """No answer within the time given."""


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises; a call that hangs is left behind on its thread.

    Raises:
        TooLong: no answer within ``seconds``.
    """
    told: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            told.append(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised again, on the thread that waits
            raised.append(error)

    thread = threading.Thread(target=run, name="doctor-asks", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TooLong
    if raised:
        raise raised[0]
    return told[0]


def program(command: Sequence[str], timeout_s: float = _PROGRAM_S) -> subprocess.CompletedProcess[str] | None:
    """Run a program of the system and return how it ended with what it said; None where there is none.

    Raises:
        TooLong: it does not end; it was killed.
    """
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "PAGER": "cat"},
        )
    except subprocess.TimeoutExpired as error:
        raise TooLong from error
    except OSError:
        return None
