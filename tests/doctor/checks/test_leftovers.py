"""Leftovers: only our own names, and only after a day (F16: by a clock that may be wrong)."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from agent.doctor.checks.leftovers import CHECK
from agent.doctor.finding import Kind, Outcome
from tests.doctor.conftest import NOW, look


def put(path: Path, age: timedelta) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".part" in path.name:
        path.touch()
    else:
        path.mkdir()
    when = (NOW - age).timestamp()
    os.utime(path, (when, when))
    return path


def test_leftovers(make_place) -> None:
    place = make_place()
    assert look(CHECK, place).ok
    put(place.state_dir / "results/.new.json.part", timedelta(hours=1))
    put(place.state_dir / "results/.future.json.part", timedelta(days=-300))
    (place.state_dir / "results/answer.json").touch()
    (place.state_dir / "results/.link.part").symlink_to("/etc/passwd")
    assert look(CHECK, place).ok
    old = put(place.state_dir / "results/.old.json.part", timedelta(days=2))
    plan = put(place.state_dir / "cache/plans/.working.abc", timedelta(days=2))
    found = [one.mend for one in look(CHECK, place).findings]
    assert {one.path for one in found if one} == {str(old), str(plan)}
    assert {one.kind for one in found if one} == {Kind.REMOVE}


def test_bundles_that_were_not_taken_in(make_place, demo_bundle, tmp_path: Path) -> None:
    place = make_place((f'bundle = "{demo_bundle}"', 'models = "models"'))
    put(tmp_path / "models/.staging-abc", timedelta(days=2))
    assert look(CHECK, place).one(Outcome.WARNING, ".staging-abc").fixable
