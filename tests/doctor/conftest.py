"""A device to look at: settings, folders, a file system root of the test's own, and a clock that can be right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from agent.doctor.finding import Check, Finding, Outcome
from agent.doctor.place import Place, open_place
from agent.records.store import Store

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Stands for ``/``, where the system tells of itself."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def make_place(write_config: Callable[..., Path], root: Path, tmp_path: Path) -> Callable[..., Place]:
    """``make_place((old, new), …, now=…)``: the place of these settings, with its state folder as it should be."""

    def make(*replacements: tuple[str, str], now: datetime = NOW, state: bool = True) -> Place:
        path = write_config(*replacements)
        path.chmod(0o644)
        if state:
            (tmp_path / "state").mkdir(mode=0o750, exist_ok=True)
            (tmp_path / "state").chmod(0o750)
        (tmp_path / "scope-1").chmod(0o755)
        return replace(open_place(path), root=root, now=lambda: now)

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """The store of the place's state folder; closed at the test's end at the latest."""
    opened: list[Store] = []

    def make() -> Store:
        opened.append(Store.open(tmp_path / "state", "device-1", 256, clinic_id="clinic-1", software_version="9.9"))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """``programs(name, script)``: a shell script that stands for a program of the system; no other one is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


class Told:
    """What a check found, by its outcome."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    def sentences(self, outcome: Outcome) -> list[str]:
        return [finding.sentence for finding in self.findings if finding.outcome is outcome]

    @property
    def ok(self) -> bool:
        """Something is well, and nothing is wrong."""
        return {finding.outcome for finding in self.findings} == {Outcome.OK}

    def one(self, outcome: Outcome, text: str = "") -> Finding:
        """The one finding of an outcome whose sentence holds the text; what is wrong must say what to do."""
        found = [one for one in self.findings if one.outcome is outcome and text in one.sentence]
        assert len(found) == 1, [(one.outcome.value, one.sentence) for one in self.findings]
        assert bool(found[0].remedy) == (outcome in {Outcome.FAILED, Outcome.WARNING})
        return found[0]


def look(check: Check, place: Place) -> Told:
    """Run a check as the doctor does; one that breaks off is a failure of the test."""
    findings = check.findings(place)
    assert findings, "a check says something in any case"
    assert not [one.sentence for one in findings if "broke off" in one.sentence], findings
    assert all(one.check == check.name and one.why for one in findings)
    return Told(findings)


def as_other_user(uid: int) -> Any:
    """A marker for tests that need to give files away."""
    return pytest.mark.skipif(os.geteuid() != 0, reason=f"only root can give files to user {uid}")
