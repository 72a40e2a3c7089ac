"""The process that exports, beside the agent: ``python -m agent.standards.worker PARENT_PID``.

The DICOM libraries take 100 MB and a second to load, and building a report takes processor time: so all of it happens
here, at a low priority, in a process that lives only while there is work. It takes its order and then one line for each
look on its standard input, tells what it did on its standard output, and ends with its input or its parent. It says
nothing on standard error: what libraries print there may hold a patient's name (F30).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

NICENESS: Final = 10
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> int:
    """Serve the parent until it has no more work."""
    _tie_to_parent(int(arguments[0]))
    lines, told = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with our own lines
    order = json.loads(lines.readline())
    os.nice(order["niceness"])
    if "scan_id" in order:
        _download(order, told)
    else:
        _serve(order, lines, told)
    return 0


def _tie_to_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(0)


def _serve(order: dict[str, Any], lines: IO[bytes], told: IO[bytes]) -> None:
    from agent.standards.export import Format
    from agent.standards.horizon import Horizon
    from agent.standards.looking import Trouble, Wish, clear_leftovers, look, open_ledger

    formats = tuple(Format(name) for name in order["formats"])
    wish = Wish(Path(order["state_dir"]), Path(order["folder"]), formats)
    horizon = Horizon(order["last_seq"], tuple(order["unfinished"]))
    clear_leftovers(wish.folder)
    ledger = None
    for line in lines:
        trouble, given_up = None, 0
        try:
            ledger = ledger or open_ledger(wish, horizon)
            look(wish, ledger, json.loads(line)["scans"], lambda one: _go_on(told, asdict(one)))
        except Trouble as error:
            trouble = str(error)
        if ledger is not None:
            given_up = ledger.given_up()
        _tell(told, {"end": True, "trouble": trouble, "given_up": given_up})
    if ledger is not None:
        ledger.close()


def _go_on(told: IO[bytes], answer: dict[str, Any]) -> None:
    """Tell of one export; and end where the parent has closed our input, since it says nothing else meanwhile."""
    _tell(told, answer)
    if select.select([sys.stdin.buffer], [], [], 0)[0]:
        sys.exit(0)


def _download(order: dict[str, Any], told: IO[bytes]) -> None:
    """One scan for one reader: a line of JSON, then each file's bytes."""
    from agent.records.errors import StoreError
    from agent.standards.errors import ExportError
    from agent.standards.export import Format, export_scan

    try:
        files = export_scan(Path(order["state_dir"]), order["scan_id"], Format(order["format"]))
    except (ExportError, StoreError) as error:
        _tell(told, {"error": type(error).__name__, "sentence": str(error)})
        return
    _tell(told, {"files": [{"name": one.name, "type": one.content_type, "size": len(one.data)} for one in files]})
    for one in files:
        told.write(one.data)
    told.flush()


def _tell(told: IO[bytes], answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, and so are we in a moment
        told.write(json.dumps(answer).encode() + b"\n")
        told.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
