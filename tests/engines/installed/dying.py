"""Runs an action on a models folder over and over, killed with SIGKILL one file operation later each time (F27).

``dying.py ACTION MODELS NEW TEMPLATE``: for each run, TEMPLATE is copied to MODELS, a forked child does ACTION and dies
before its n-th operation below MODELS, and what it left is judged and printed as one JSON line. The last line is that
of the child that came to its end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.backend import BundleError
from engines.installed.activation import Activation, Installed, commit, give_up
from engines.installed.catalogue import catalogue, load_installed
from engines.installed.ledger import Ledger
from engines.installed.steps import Order, activate, go_back
from engines.trust.verifying import DEMO_TRUST

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.link", "shutil.copyfile")


def die_before(number: int, folder: str) -> None:
    """Kill this process before its n-th file operation below the folder."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in EVENTS and any(isinstance(word, (str, os.PathLike)) and folder in str(word) for word in arguments):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def no_test(_bundle: object) -> None:
    """The engine's part is another test's."""


def candidate(state: Activation) -> Installed:
    assert state.candidate is not None
    return state.candidate.installed


def actions(ledger: Ledger, new: str) -> dict[str, Callable[[], object]]:
    order = Order(new, DEMO_TRUST)
    return {
        "activate": lambda: activate(ledger, order, test=no_test),
        "commit": lambda: ledger.change(lambda state: commit(state, candidate(state), "now")),
        "give-up": lambda: ledger.change(lambda state: give_up(state, candidate(state), "bad", "now")),
        "rollback": lambda: go_back(ledger, DEMO_TRUST, test=no_test),
    }


def judge(ledger: Ledger) -> dict[str, object]:
    """What lies in the folder now."""
    state = ledger.read()
    entries = catalogue(ledger.models, state, DEMO_TRUST)
    for installed in (state.active, state.provisional, state.previous.installed if state.previous else None):
        if installed is not None:
            load_installed(ledger.models, installed, DEMO_TRUST)
    return {
        "active": state.active.bundle if state.active else None,
        "previous": state.previous.installed.bundle if state.previous else None,
        "stage": state.candidate.stage.value if state.candidate else None,
        "unusable": [entry.fault for entry in entries if entry.fault],
    }


def main() -> None:
    action, models, new, template = sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    os.fsync = lambda _handle: None  # it costs most of the time, and a killed process's writes are kept without it
    number, finished = 0, False
    while not finished:
        number += 1
        shutil.rmtree(models, ignore_errors=True)
        shutil.copytree(template, models)
        ledger = Ledger(models)
        child = os.fork()
        if child == 0:
            die_before(number, str(models))
            actions(ledger, new)[action]()
            os._exit(0)
        finished = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found = judge(ledger)
        try:  # the same command again, not killed this time
            actions(ledger, new)[action]()
            again = judge(ledger)
        except (BundleError, AssertionError) as error:
            again = {"refused": str(error)}
        leftovers = [path.name for path in models.glob(".staging-*")]
        print(json.dumps({"died": not finished, **found, "again": again, "leftovers": leftovers}), flush=True)


if __name__ == "__main__":
    main()
