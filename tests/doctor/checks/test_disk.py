"""The disk: full, read-only, out of files, and the agent's quota (F06)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.doctor.checks.disk import CHECK
from agent.doctor.finding import Outcome
from agent.records.space import MIB
from tests.doctor.conftest import look


def disk(monkeypatch: pytest.MonkeyPatch, *, free_mb: int, files: int = 900, read_only: bool = False) -> None:
    flags = os.ST_RDONLY if read_only else 0
    told = os.statvfs_result((4096, MIB, 100_000, free_mb, free_mb, 1000, files, files, flags, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: told)


def test_room_enough(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free_mb=50_000)
    assert look(CHECK, make_place()).ok


@pytest.mark.fault("F06")
def test_what_stops_answers(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place()
    disk(monkeypatch, free_mb=10)
    assert look(CHECK, place).one(Outcome.FAILED, "full (10 MB free)")
    disk(monkeypatch, free_mb=50_000, read_only=True)
    assert look(CHECK, place).one(Outcome.FAILED, "only be read")
    disk(monkeypatch, free_mb=50_000, files=3)
    assert look(CHECK, place).one(Outcome.FAILED, "few more files")


@pytest.mark.fault("F06")
def test_the_quota(make_place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = make_place(("quota_mb = 1024", "quota_mb = 64"))
    disk(monkeypatch, free_mb=50_000)
    (tmp_path / "state/results").mkdir()
    with (tmp_path / "state/results/big").open("wb") as file:
        file.truncate(56 * MIB)
    assert look(CHECK, place).one(Outcome.WARNING, "nearly full (56 of 64 MB)")
    with (tmp_path / "state/results/big").open("wb") as file:
        file.truncate(62 * MIB)
    assert look(CHECK, place).one(Outcome.FAILED, "no new captures")


def test_a_quota_that_the_disk_does_not_have(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, free_mb=500)
    assert "lower [store] quota_mb to 436" in look(CHECK, make_place()).one(Outcome.WARNING).remedy


def test_without_a_folder(make_place) -> None:
    assert look(CHECK, make_place(state=False)).one(Outcome.SKIPPED)
