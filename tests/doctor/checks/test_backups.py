"""Backups: none, an old one, one elsewhere, and clocks that are wrong (F16)."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.doctor.checks.backups import CHECK, INTERVAL, MARGIN, SERVICE, TIMER, folder_of
from agent.doctor.finding import Outcome
from agent.records.keeping.backup import BACKUPS, backup
from tests.doctor.conftest import look

SYSTEMD = Path(__file__).resolve().parents[3] / "systemd"
MADE_LATER = timedelta(minutes=5)


@pytest.fixture
def copied(make_store, make_place, tmp_path: Path) -> Path:
    """A database with one copy of it; returns the copy."""
    make_store()
    return backup(tmp_path / "state", tmp_path / "state" / BACKUPS)[0]


def test_nothing_to_copy_and_no_copy(make_place, make_store) -> None:
    place = make_place()
    assert look(CHECK, place).one(Outcome.SKIPPED)
    make_store()
    finding = look(CHECK, place).one(Outcome.WARNING, "There is no copy")
    assert f"sudo dermascan backup --config {place.config_file};" in finding.remedy
    assert f"systemctl enable --now {TIMER}" in finding.remedy


def test_a_copy_of_last_night_and_one_that_is_too_old(make_place, copied: Path) -> None:
    now = datetime.now(timezone.utc)
    assert look(CHECK, make_place(now=now + MADE_LATER)).ok
    assert look(CHECK, make_place(now=now + INTERVAL + MARGIN - MADE_LATER)).ok
    finding = look(CHECK, make_place(now=now + INTERVAL + MARGIN + MADE_LATER)).one(Outcome.WARNING)
    assert "36 hours old" in finding.sentence
    assert f"journalctl -u {SERVICE}" in finding.remedy
    assert "9 days old" in look(CHECK, make_place(now=now + timedelta(days=9.1))).one(Outcome.WARNING).sentence


def test_the_newest_copy_counts(make_place, copied: Path, tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    beside = copied.with_suffix(".json")
    old = {**json.loads(beside.read_text()), "made_at": "2026-01-01T00:00:00Z"}
    backup(tmp_path / "state", copied.parent)
    beside.write_text(json.dumps(old))
    assert "2 copies" in look(CHECK, make_place(now=now + MADE_LATER)).one(Outcome.OK).sentence


@pytest.mark.fault("F16")
def test_a_clock_that_cannot_be_right_makes_no_copy_old_or_new(make_place, copied: Path) -> None:
    told = look(CHECK, make_place(now=datetime(1970, 1, 2, tzinfo=timezone.utc)))
    assert "not judged" in told.one(Outcome.OK).sentence
    early = datetime.now(timezone.utc) - timedelta(days=3)
    assert look(CHECK, make_place(now=early)).one(Outcome.WARNING, "still to come")


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_copy_of_which_nothing_is_written_has_the_files_age(make_place, copied: Path, content: str | None) -> None:
    beside = copied.with_suffix(".json")
    if content is None:
        beside.unlink()
    else:
        beside.write_text(content)
    now = datetime.now(timezone.utc)
    assert look(CHECK, make_place(now=now + MADE_LATER)).ok
    os.utime(copied, ((now - timedelta(days=5)).timestamp(),) * 2)
    assert look(CHECK, make_place(now=now)).one(Outcome.WARNING, "5 days old")


@pytest.mark.parametrize("option", ["--to {}", "--to={}", "--to '{}' --keep 30"])
def test_copies_that_a_drop_in_sends_elsewhere(make_place, copied: Path, tmp_path: Path, root: Path, option) -> None:
    shutil.rmtree(copied.parent)
    units, elsewhere = root / "usr/lib/systemd/system", tmp_path / "share"
    units.mkdir(parents=True)
    shutil.copyfile(SYSTEMD / SERVICE, units / SERVICE)
    place = make_place(now=datetime.now(timezone.utc) + MADE_LATER)
    assert folder_of(place) == copied.parent, "our own service names no folder"
    drop_in = root / f"etc/systemd/system/{SERVICE}.d/50-share.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(f"[Service]\nExecStart=\nExecStart=/opt/x backup {option.format(elsewhere)}\n")
    finding = look(CHECK, place).one(Outcome.WARNING, f"no copy of the database in {elsewhere}")
    assert f"--to {elsewhere}" in finding.remedy
    backup(tmp_path / "state", elsewhere)
    assert look(CHECK, place).ok


def test_the_interval_is_the_timers() -> None:
    text = (SYSTEMD / TIMER).read_text(encoding="utf-8")
    assert re.search(r"^OnCalendar=\*-\*-\* \d\d:\d\d$", text, re.MULTILINE), "once a day, and no other times"
    assert timedelta(days=1) == INTERVAL
