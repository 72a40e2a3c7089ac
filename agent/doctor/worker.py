"""The process in which the checks run, each on a thread of its own: ``python -m agent.doctor.worker CONFIG …``.

It writes lines of JSON: first what it is going to look at, then each check's findings as they come. It is ended by who
started it, whatever it hangs in.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from typing import Any

from agent.doctor.finding import Check, Finding
from agent.doctor.place import Place, open_place


def told(finding: Finding) -> dict[str, Any]:
    """A finding as plain data, for the process that asked."""
    return {**asdict(finding), "outcome": finding.outcome.value}


def choose(where: str, names: Sequence[str]) -> list[Check]:
    """The checks of a list, ``module:name``; only those that are named, where any are."""
    module, _, attribute = where.partition(":")
    every: Sequence[Check] = getattr(importlib.import_module(module), attribute)
    return [check for check in every if not names or check.name in names]


def run(place: Place, checks: Sequence[Check], write: Any) -> None:
    """Run every check at once and write what each finds."""
    ready: Queue[tuple[str, list[Finding]]] = Queue()

    def look(check: Check) -> None:
        ready.put((check.name, check.findings(place)))

    listed = [
        {"name": one.name, "title": one.title, "limit_s": one.limit_s, "silent": told(one.silent())} for one in checks
    ]
    write({"checks": listed, "device": place.settings.device.id if place.settings else None})
    for check in checks:
        threading.Thread(target=look, args=(check,), name=f"check-{check.name}", daemon=True).start()
    for _ in checks:
        name, findings = ready.get()
        write({"name": name, "findings": [told(finding) for finding in findings]})


def main(arguments: Sequence[str]) -> None:
    """``CONFIG MODULE:NAME [CHECK …]``."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers

    def write(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=answers)

    run(open_place(Path(arguments[0])), choose(arguments[1], arguments[2:]), write)
    answers.flush()
    os._exit(0)  # a thread that hangs, or a library on its way out, keeps nobody


if __name__ == "__main__":
    main(sys.argv[1:])
