from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent.records import space
from agent.records.space import MIB, SpaceGuard


@pytest.fixture
def guard(state_dir):
    (state_dir / "results").mkdir(parents=True)
    (state_dir / "results" / "x.json").write_bytes(bytes(1000))
    (state_dir / "dermascan.db").write_bytes(bytes(4096))
    clock = SimpleNamespace(now=0.0)
    made = SpaceGuard(state_dir, 1, clock=lambda: clock.now)
    made.clock = clock
    return made


@pytest.mark.fault("F06")
def test_intake_pauses_at_95_percent_and_resumes_lower(guard):
    assert guard.space().results == 1000
    assert guard.space().database == 4096
    assert not guard.full()
    guard.wrote(int(0.95 * MIB))
    assert not guard.full(), "the figures are kept for a moment"
    guard.clock.now += 10
    assert guard.full()
    assert "quota_mb" in guard.sentence()
    guard.wrote(-int(0.015 * MIB))
    guard.clock.now += 10
    assert guard.full(), "a little room does not yet resume"
    guard.wrote(-int(0.03 * MIB))
    guard.clock.now += 10
    assert not guard.full()


@pytest.mark.fault("F06")
def test_a_nearly_full_disk_pauses_too(guard, monkeypatch):
    monkeypatch.setattr(space.os, "statvfs", lambda _: SimpleNamespace(f_bavail=10, f_frsize=4096))
    assert guard.full()


def test_before_the_first_start_there_is_nothing(tmp_path):
    assert SpaceGuard(tmp_path, 1).space().share == 0.0
    assert list(tmp_path.iterdir()) == []
