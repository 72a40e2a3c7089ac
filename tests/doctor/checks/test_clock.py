"""The clock: impossible, gone back, not kept, and its battery (F16)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.doctor.checks import clock as check
from agent.doctor.checks.clock import CHECK
from agent.doctor.finding import Outcome
from tests.doctor.conftest import NOW, look

YEAR_1970 = datetime(1970, 1, 1, 0, 3, tzinfo=timezone.utc)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "synchronised", lambda: True)


def test_a_clock_that_is_right(make_place, kept) -> None:
    assert look(CHECK, make_place()).ok


@pytest.mark.fault("F16")
def test_1970(make_place, kept) -> None:
    assert look(CHECK, make_place(now=YEAR_1970)).one(Outcome.FAILED, "01 January 1970")


@pytest.mark.fault("F16")
def test_a_clock_that_went_back(make_place, kept) -> None:
    place = make_place()
    (place.state_dir / "access").mkdir()
    (place.state_dir / "access/last-time").write_text((NOW + timedelta(days=2)).isoformat())
    assert look(CHECK, place).one(Outcome.FAILED, "went back")


def test_nothing_keeps_it(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "synchronised", lambda: False)
    assert look(CHECK, make_place()).one(Outcome.WARNING, "not synchronised")
    monkeypatch.setattr(check, "synchronised", lambda: None)
    assert look(CHECK, make_place()).one(Outcome.OK, "plausible")


@pytest.mark.parametrize(("says", "kept"), [("yes", True), ("no", False), ("", None)])
def test_in_a_sandbox_systemd_is_asked(programs, monkeypatch: pytest.MonkeyPatch, says: str, kept: bool | None) -> None:
    class Refusing:
        def adjtimex(self, _buffer: object) -> int:
            return -1

    monkeypatch.setattr(check.ctypes, "CDLL", lambda *_, **__: Refusing())
    programs("timedatectl", f"echo {says}")
    assert check.synchronised() is kept


def test_the_kernel_itself_answers() -> None:
    assert check.synchronised() in {True, False, None}


def test_the_battery(make_place, kept, root: Path) -> None:
    for name, when in (("rtc0", NOW), ("rtc1", YEAR_1970)):
        (root / f"sys/class/rtc/{name}").mkdir(parents=True)
        (root / f"sys/class/rtc/{name}/since_epoch").write_text(f"{int(when.timestamp())}\n")
    assert look(CHECK, make_place()).ok, "one of two is right"
    (root / "sys/class/rtc/rtc0/since_epoch").write_text("180\n")
    assert look(CHECK, make_place()).one(Outcome.WARNING, "while the device is off")
