"""SQLite: its version, and that nobody else writes (F09)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.doctor.checks.sqlite import CHECK
from agent.doctor.finding import Outcome
from agent.records import sqlite_version
from tests.doctor.conftest import look

OPEN = "import sys; f = open(sys.argv[1], sys.argv[2]); print(); sys.stdin.read()"


@pytest.fixture
def opened(make_place, make_store, root):
    """Another process has the database open, in this mode; returns the place."""
    place = make_place()
    make_store().close()
    (root / "proc").symlink_to("/proc")
    children = []

    def open_it(mode: str):
        children.append(
            subprocess.Popen(
                [sys.executable, "-c", OPEN, str(place.state_dir / "dermascan.db"), mode],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        assert children[-1].stdout.readline() == b"\n"
        return place

    yield open_it
    for child in children:
        child.communicate()


@pytest.mark.fault("F09")
@pytest.mark.parametrize(("version", "outcome"), [((3, 40, 1), Outcome.FAILED), ((3, 51, 3), Outcome.WARNING)])
def test_another_writer(opened, monkeypatch: pytest.MonkeyPatch, version, outcome: Outcome) -> None:
    monkeypatch.setattr(sqlite_version, "running", lambda: version)
    told = look(CHECK, opened("r+b"))
    assert "Another program (process " in told.one(outcome).sentence


@pytest.mark.fault("F09")
def test_a_reader_harms_nobody_and_an_old_version_alone_neither(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_version, "running", lambda: (3, 40, 1))
    told = look(CHECK, opened("rb"))
    assert told.ok
    assert "3.40.1" in told.findings[0].sentence
    assert "works around it" in told.findings[0].sentence


def test_a_new_version(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_version, "running", lambda: (3, 51, 3))
    told = look(CHECK, make_place())
    assert told.ok
    assert "without the checkpoint race" in told.findings[0].sentence
