"""The agent: what systemd says of it, or the process that holds the state folder."""

from __future__ import annotations

import pytest

from agent.doctor.checks.service import CHECK
from agent.doctor.finding import Outcome
from tests.doctor.conftest import look


def unit(**values: str) -> str:
    """A ``systemctl`` that knows the unit."""
    told = {"LoadState": "loaded", "ActiveState": "active", "NRestarts": "0", "UnitFileState": "enabled"} | values
    return "\n".join(f"echo {key}={value}" for key, value in told.items())


def test_it_runs(make_place, programs) -> None:
    programs("systemctl", unit())
    assert look(CHECK, make_place()).ok


@pytest.mark.parametrize(
    ("values", "outcome", "text"),
    [
        ({"ActiveState": "inactive"}, Outcome.FAILED, "does not run"),
        ({"ActiveState": "failed", "Result": "watchdog"}, Outcome.FAILED, "(watchdog)"),
        ({"ActiveState": "failed", "ExecMainStatus": "78"}, Outcome.FAILED, "settings cannot be used"),
        ({"ActiveState": "activating"}, Outcome.WARNING, "is starting"),
        ({"NRestarts": "4"}, Outcome.WARNING, "4 times"),
        ({"UnitFileState": "disabled"}, Outcome.WARNING, "after a power cut"),
    ],
)
def test_what_systemd_says(make_place, programs, values: dict[str, str], outcome: Outcome, text: str) -> None:
    programs("systemctl", unit(**values))
    assert look(CHECK, make_place()).one(outcome, text)


def test_without_systemd(make_place, programs, make_store) -> None:
    place = make_place()
    assert look(CHECK, place).one(Outcome.WARNING, "does not run")
    make_store()
    assert look(CHECK, place).ok
