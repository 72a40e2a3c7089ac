"""A folder for who may, and a clock that stands where it is put."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.access.sessions import SessionClocks
from agent.access.tokens import can_be_right

START = datetime(2027, 1, 1, 12, tzinfo=timezone.utc)
IN_1970 = datetime(1970, 1, 1, 0, 3, tzinfo=timezone.utc)


@dataclass
class Time:
    """A wall clock and a clock since the boot, which go on together and are set apart."""

    wall: datetime = START
    since_boot_s: float = 500.0
    boot_id: str = "boot-1"
    clocks: SessionClocks = field(init=False)

    def __post_init__(self) -> None:
        self.clocks = SessionClocks(lambda: self.wall, lambda: self.since_boot_s, lambda: self.boot_id, can_be_right)

    def go_on(self, **how_long: float) -> None:
        step = timedelta(**how_long)
        self.wall += step
        self.since_boot_s += step.total_seconds()

    def reboot(self) -> None:
        self.since_boot_s, self.boot_id = 20.0, self.boot_id + "+"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "access"
