"""Which sidecars are asked about, and when: until they are settled, and without holding captures up."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from agent.intake.late_sidecars import AT_ONCE, FIRST_S, LONGEST_S, LateSidecars


class Told:
    """Notes what was asked, and when; answers as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.settled = False
        self.error: Exception | None = None
        self.asked: list[tuple[float, str]] = []

    def __call__(self, path: Path) -> bool:
        self.asked.append((self.now, path.name))
        if self.error is not None:
            raise self.error
        return self.settled


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def late(told: Told) -> LateSidecars:
    return LateSidecars(told, lambda: told.now)


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    path.write_text("{}")
    return path


def run(late: LateSidecars, told: Told, folder: Path, until: float) -> None:
    while (due := late.next_due()) is not None and due <= until:
        told.now = max(told.now, due)
        late.ask_again(folder)


def test_one_that_is_settled_is_asked_about_once_for_each_change(
    late: LateSidecars, told: Told, sidecar: Path, tmp_path: Path
) -> None:
    told.settled = True
    for _ in range(3):
        late.note(sidecar)
    assert len(told.asked) == 1
    assert late.next_due() is None
    os.utime(sidecar, ns=(1, 1))
    late.note(sidecar)
    assert len(told.asked) == 2


@pytest.mark.fault("F03")
def test_one_that_is_not_settled_is_asked_about_again_ever_more_rarely(
    late: LateSidecars, told: Told, sidecar: Path, tmp_path: Path
) -> None:
    late.note(sidecar)
    run(late, told, tmp_path, 4 * LONGEST_S)
    gaps = [after - before for (before, _), (after, _) in pairwise(told.asked)]
    assert gaps[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert gaps[-1] == LONGEST_S
    told.settled = True
    run(late, told, tmp_path, 6 * LONGEST_S)
    asked = len(told.asked)
    assert late.next_due() is None
    run(late, told, tmp_path, 100 * LONGEST_S)
    assert len(told.asked) == asked


@pytest.mark.fault("F06")
def test_one_that_could_not_be_taken_is_not_given_up(
    late: LateSidecars, told: Told, sidecar: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told.error = OSError("full")
    late.note(sidecar)
    assert "tried again" in caplog.text
    told.error, told.settled = None, True
    run(late, told, tmp_path, 10.0)
    assert [name for _, name in told.asked] == ["a.json", "a.json"]


def test_what_lies_there_at_the_start_is_asked_about_a_little_later(
    late: LateSidecars, told: Told, sidecar: Path, tmp_path: Path
) -> None:
    late.note(sidecar, tell=False)
    late.ask_again(tmp_path)
    assert told.asked == []
    told.settled = True
    run(late, told, tmp_path, 10.0)
    assert told.asked == [(FIRST_S, "a.json")]


def test_captures_need_not_wait_for_many(late: LateSidecars, told: Told, tmp_path: Path) -> None:
    told.settled = True
    for number in range(3 * AT_ONCE):
        path = tmp_path / f"{number}.json"
        path.write_text("{}")
        late.note(path, tell=False)
    told.now = FIRST_S
    for done in (1, 2, 3):
        late.ask_again(tmp_path)
        assert len(told.asked) == done * AT_ONCE
    assert len({name for _, name in told.asked}) == 3 * AT_ONCE


def test_one_that_is_gone_is_forgotten(late: LateSidecars, told: Told, sidecar: Path, tmp_path: Path) -> None:
    late.note(sidecar)
    late.keep_only(set())
    run(late, told, tmp_path, 100.0)
    assert len(told.asked) == 1


def test_one_that_changed_while_it_was_open_is_asked_about_once_at_a_time(
    late: LateSidecars, told: Told, sidecar: Path, tmp_path: Path
) -> None:
    late.note(sidecar)
    os.utime(sidecar, ns=(1, 1))
    late.note(sidecar)
    told.settled = True
    before = len(told.asked)
    run(late, told, tmp_path, 100.0)
    assert len(told.asked) == before + 1
