"""A part of the daemon that is wedged is seen, by name, and one that waits is not (F25)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.upkeep import progress
from tests.agent.test_daemon import picture, until
from tests.faults.running import running

WriteConfig = Callable[..., Path]


@pytest.fixture(autouse=True)
def _asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.Echo.__init__, "__defaults__", (time.monotonic, 0.05))


@pytest.mark.fault("F25")
@pytest.mark.requirement("R-SRV-2")
def test_all_parts_of_a_working_agent_make_progress(write_config: WriteConfig, tmp_path: Path) -> None:
    with running(write_config()) as (daemon, commits):
        sources = daemon.progress()
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        commits.wait(lambda by_name: "a.png" in by_name)
        began = time.monotonic()
        for source in sources.values():
            source()
        for name, source in sources.items():
            until(lambda source=source: source() > began, f"{name} makes progress")


@pytest.mark.fault("F25")
def test_a_store_that_hangs_is_seen(write_config: WriteConfig) -> None:
    with running(write_config()) as (daemon, _):
        source, free = daemon.progress()["store"], threading.Event()
        daemon.store._writer.submit(lambda _: free.wait(20), writes=False)
        time.sleep(0.1)  # the next question is due
        hung = source()
        time.sleep(0.2)
        assert source() == hung
        free.set()
        until(lambda: source() > hung, "the store makes progress again")


@pytest.mark.fault("F25")
def test_an_analysis_that_hangs_is_seen(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, entered = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        entered.set()
        free.wait(20)
        raise RuntimeError("it was wedged")

    monkeypatch.setattr("agent.analysts.analyse", hang)
    with running(write_config()) as (daemon, _):
        source = daemon.progress()["worker"]
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        assert entered.wait(15)
        hung = source()
        time.sleep(0.2)
        assert source() == hung
        free.set()
        until(lambda: source() > hung, "the worker makes progress again")


@pytest.mark.fault("F25")
def test_a_watch_that_hangs_is_seen_and_one_that_waits_for_room_is_not(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(write_config()) as (daemon, _):
        source = daemon.progress()["intake"]
        before = source()
        until(lambda: source() > before, "the folder is looked at")
        free = threading.Event()
        monkeypatch.setattr("agent.intake.watch.FolderWatch._rescan", lambda *_: free.wait(20))
        watch = daemon._watches._watches["scope-1"].watch
        watch._next_rescan = 0.0
        time.sleep(1.5)
        hung = source()
        time.sleep(0.5)
        assert source() == hung
        with daemon._watches._pulse.waiting():
            assert source() > hung
        free.set()
        until(lambda: source() > hung, "the folder is looked at again")
