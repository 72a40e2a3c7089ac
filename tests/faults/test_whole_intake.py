"""The whole agent and its folder: cameras' habits, lost events, exchanged folders, touched and repeated files."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent.demo.dermoscope import Habit, Pace, SimulatedDermoscope
from tests.faults.whole import WholeAgent, check_books, drop, picture, rows, until, wait_filed

WriteConfig = Callable[..., Path]
SOON = "agent.upkeep.rounds:UPKEEP_S=0.3"


@pytest.mark.fault("F01")
def test_every_habit_of_a_camera_is_one_answer(write_config: WriteConfig, tmp_path: Path) -> None:
    camera = SimulatedDermoscope(tmp_path / "scope-1", pace=Pace(pause_s=0.4, reopen_s=0.2))
    exposure = camera.expose((320, 240))
    with WholeAgent(write_config()) as agent:
        agent.wait_ready()
        shots = [camera.write(camera.again(exposure), habit) for habit in Habit]
        wait_filed(tmp_path, [shot.sha256 for shot in shots])
        agent.stop()
    check_books(tmp_path, [shot.sha256 for shot in shots])


@pytest.mark.fault("F02")
def test_a_flood_of_events_while_the_agent_stands_still_loses_no_capture(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    scope = tmp_path / "scope-1"
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with WholeAgent(write_config()) as agent:
        agent.wait_ready()
        agent.process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(agent.process.pid).status() == psutil.STATUS_STOPPED, "the stop")
        for number in range(limit * 3 // 4):  # made and closed: two events each, no two alike in a row
            descriptor = os.open(scope / f".{number}", os.O_WRONLY | os.O_CREAT)
            os.close(descriptor)
        hashes = drop(scope, 1, 2, 3)
        agent.process.send_signal(signal.SIGCONT)
        wait_filed(tmp_path, hashes)
        assert "were lost" in agent.said
        agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F02")
def test_a_watch_that_dies_without_a_word_is_replaced(write_config: WriteConfig, tmp_path: Path) -> None:
    scope = tmp_path / "scope-1"
    with WholeAgent(write_config(), "watch dies", SOON) as agent:
        agent.wait_ready()
        (tmp_path / "wedge").touch()
        hashes = drop(scope, 1)  # its event is what the watch dies of
        wait_filed(tmp_path, hashes)
        assert "the watch of scope-1 died" in agent.said
        agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F02")
@pytest.mark.fault("F03")
def test_a_folder_that_goes_and_comes_again(write_config: WriteConfig, tmp_path: Path) -> None:
    scope = tmp_path / "scope-1"
    with WholeAgent(write_config(), SOON) as agent:
        agent.wait_ready()
        hashes = drop(scope, 1)
        wait_filed(tmp_path, hashes)
        shutil.rmtree(scope)
        agent.wait_said("is not there; waiting for it")
        scope.mkdir()
        hashes += drop(scope, 2)
        wait_filed(tmp_path, hashes)
        agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F03")
def test_an_empty_folder_in_the_place_of_the_real_one_takes_nothing_for_removed(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    """A share that drops: the capture in hand is not there any more, through a restart, and is answered when it is."""
    scope, away = tmp_path / "scope-1", tmp_path / "away"
    config = write_config()
    with WholeAgent(config) as agent:
        agent.wait_ready()
        known = drop(scope, 1)
        wait_filed(tmp_path, known)
        agent.worker().suspend()  # so that the next capture is claimed and not answered
        lost = drop(scope, 2)
        until(lambda: rows(tmp_path, "SELECT 1 FROM scans WHERE state = 'received'"), "the claim")
    scope.rename(away)
    scope.mkdir()
    with WholeAgent(config, SOON) as agent:
        agent.wait_ready()
        time.sleep(1.0)  # three rounds, of which two would refuse it
        assert not rows(tmp_path, "SELECT 1 FROM scans WHERE state = 'rejected'")
        scope.rmdir()
        away.rename(scope)
        wait_filed(tmp_path, [*known, *lost])
        agent.stop()
    check_books(tmp_path, [*known, *lost])


@pytest.mark.fault("F04")
def test_touched_renamed_copied_and_made_again_while_it_is_answered(write_config: WriteConfig, tmp_path: Path) -> None:
    scope = tmp_path / "scope-1"
    with WholeAgent(write_config()) as agent:
        agent.wait_ready()
        agent.worker().suspend()
        (one,) = drop(scope, 1)
        until(lambda: rows(tmp_path, "SELECT 1 FROM scans WHERE state = 'received'"), "the claim")
        file = scope / "capture-1.jpg"
        stamp = file.stat()
        os.utime(file)
        file.unlink()
        file.write_bytes(picture(1))
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        shutil.copyfile(file, scope / "copy.jpg")
        file.rename(scope / "other-name.jpg")
        # It hangs: the worker is killed at its deadline, and another answers.
        wait_filed(tmp_path, [one])
        (two,) = drop(scope, 2)
        wait_filed(tmp_path, [two])
        agent.stop()
    check_books(tmp_path, [one, two])
