"""Replaced databases: how many, how large, how old; told, and never removed by the doctor."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.doctor.checks.replaced import CHECK, OLD
from agent.doctor.finding import Outcome
from agent.records.keeping.backup import BACKUPS, backup
from agent.records.keeping.restore import restore
from agent.records.replacing import REPLACED
from agent.records.sealing import PLAIN
from agent.records.space import MIB
from tests.doctor.conftest import NOW, look


def put(state_dir: Path, number: int, age: timedelta, size: int = MIB) -> None:
    folder = state_dir / REPLACED / str(number)
    folder.mkdir(parents=True)
    with (folder / "dermascan.db").open("wb") as file:
        file.truncate(size)
    when = (NOW - age).timestamp()
    os.utime(folder, (when, when))


def test_what_a_restore_puts_aside_is_told(make_place, make_store, tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    place = make_place(now=now)
    store = make_store()
    path, _, _ = backup(place.state_dir, place.state_dir / BACKUPS)
    store.close()
    assert look(CHECK, place).one(Outcome.OK, "No database")
    restore(path, place.state_dir, "device-1", "Kim", PLAIN)
    assert look(CHECK, place).one(Outcome.OK, f"A replaced database lies in {place.state_dir / REPLACED}")
    assert look(CHECK, make_place(now=now + OLD + timedelta(hours=1))).one(Outcome.WARNING, "the oldest for 30 days")


def test_old_ones(make_place) -> None:
    place = make_place()
    put(place.state_dir, 1, OLD - timedelta(hours=1))
    assert look(CHECK, place).ok
    put(place.state_dir, 2, timedelta(days=45))
    put(place.state_dir, 3, timedelta(days=-400))
    finding = look(CHECK, place).one(Outcome.WARNING)
    assert finding.sentence.startswith("3 databases")
    assert "(3 MB), the oldest for 45 days" in finding.sentence
    assert finding.remedy.endswith(f"sudo rm -r {place.state_dir / REPLACED}")
    assert not finding.fixable, "it may be the only place that a verdict is in"


@pytest.mark.fault("F16")
def test_a_clock_that_cannot_be_right_makes_none_old(make_place) -> None:
    place = make_place(now=datetime(1970, 1, 1, tzinfo=timezone.utc))
    put(place.state_dir, 1, timedelta(0))
    os.utime(place.state_dir / REPLACED / "1", (-60 * 86_400.0,) * 2)
    assert look(CHECK, place).ok


@pytest.mark.fault("F06")
def test_large_ones(make_place) -> None:
    place = make_place(("quota_mb = 1024", "quota_mb = 100"))
    put(place.state_dir, 1, timedelta(days=1), 10 * MIB)
    assert look(CHECK, place).ok
    put(place.state_dir, 2, timedelta(days=1), MIB)
    assert look(CHECK, place).one(Outcome.WARNING, "(11 MB): more than a tenth")


def test_what_is_no_database_put_aside_is_none_of_it(make_place) -> None:
    place = make_place()
    (place.state_dir / REPLACED / "notes").mkdir(parents=True)
    (place.state_dir / REPLACED / "1").touch()
    assert look(CHECK, place).one(Outcome.OK, "No database")
