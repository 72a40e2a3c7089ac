"""Runs a verb: prints what it gives as text or JSON, and turns every failure into one sentence and an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from calibration.chart import ChartNotFound
from calibration.commands.desk import Desk, Refused
from calibration.commands.exits import EXIT_FAIL, EXIT_NO_CHART, EXIT_SETTINGS, EXIT_STALE, EXIT_UNUSABLE
from calibration.commands.settings import SettingsError
from calibration.correction.flatfield import GainMapMismatch
from calibration.references import ReferenceUnreadable
from calibration.shelf.clock import ClockError
from calibration.shelf.files import ShelfError
from calibration.shelf.writing import ProfileStale
from calibration.visit.pictures import PictureError
from calibration.visit.steps import VisitError

if TYPE_CHECKING:
    from rich.console import Console

WIDTH: Final = 110


@dataclass(frozen=True)
class Result:
    """What a verb gives."""

    code: int
    data: Mapping[str, Any]
    """For ``--json``."""
    show: Callable[[Console], None]
    """For people."""


Verb = Callable[[Desk], Result]
_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (SettingsError, EXIT_SETTINGS),
    (ChartNotFound, EXIT_NO_CHART),
    (ProfileStale, EXIT_STALE),
    (ShelfError, EXIT_FAIL),
    (PictureError, EXIT_FAIL),
    (ReferenceUnreadable, EXIT_FAIL),
    (ClockError, EXIT_FAIL),
    (GainMapMismatch, EXIT_FAIL),
    (VisitError, EXIT_FAIL),
    (Refused, EXIT_FAIL),
)
FAILURES: Final[tuple[type[Exception], ...]] = (*(kind for kind, _ in _CODES), OSError)
"""Everything that a person can mend, each with its sentence."""


def run_verb(verb: Verb, arguments: argparse.Namespace) -> int:
    """Run a verb and print what it gives; returns the exit code."""
    desk = Desk(arguments)
    try:
        result = verb(desk)
    except FAILURES as error:
        code, sentence = explain(error)
        if desk.json:
            print(json.dumps({"state": "refused", "exit_code": code, "sentence": sentence}, ensure_ascii=False))
        print(sentence, file=sys.stderr)
        return code
    if desk.json:
        print(json.dumps({**result.data, "exit_code": result.code}, indent=2, ensure_ascii=False))
    else:
        result.show(open_console())
    return result.code


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and sentence of a failure."""
    if isinstance(error, OSError):
        return EXIT_UNUSABLE, _file_sentence(error)
    return next(code for kind, code in _CODES if isinstance(error, kind)), str(error)


def open_console() -> Console:
    """A console on stdout: the terminal's own width, or a steady one where a file or a pipe reads it."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=WIDTH)


def _file_sentence(error: OSError) -> str:
    where = error.filename or "a file"
    if isinstance(error, PermissionError):
        return (
            f"{where}: you have no right to write or read there; run the command as the agent's user, "
            "for example: sudo -u dermascan dermascan calibrate …"
        )
    return f"{where}: {error.strerror or error}; make room or mend the disk, then try again."
