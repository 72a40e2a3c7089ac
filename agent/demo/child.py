"""A process beside the demonstration that ends with it, however that ends; Ctrl-C at the terminal is not for it.

Run as ``python -m agent.demo.child PARENT_PID COMMAND…``: asks the kernel to be killed when the parent's thread ends,
and then becomes the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PATIENCE_S: Final = 5.0
_LAST_WORDS: Final = 300


class ChildFailed(Exception):
    """It did not come to work; one sentence."""


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a Python command (what comes after ``python``), its words going to ``log``; call from the main thread."""
    with log.open("wb") as words:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is for the demonstration, which ends its children in order
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End it, kindly first."""
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_PATIENCE_S)


def last_words(log: Path) -> str:
    """The end of what it said, on one line."""
    return " ".join(log.read_text(encoding="utf-8", errors="replace").split())[-_LAST_WORDS:] or "it said nothing"


def main(arguments: list[str]) -> None:
    """The child, until it becomes the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(arguments[0]):  # the parent ended before the kernel was asked
        os._exit(0)
    os.execv(sys.executable, [sys.executable, *arguments[1:]])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
