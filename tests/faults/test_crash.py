"""The whole agent, killed at every step of a capture's way and started again: nothing lost, twice or half."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.kills import run
from tests.faults.crashing_agent import STEPS

AGENT = Path(__file__).with_name("crashing_agent.py")
REPOSITORY = AGENT.parents[2]
WriteConfig = Callable[..., Path]


def start(config: Path, step: str) -> subprocess.Popen[bytes]:
    with (config.parent / "agent.log").open("ab") as log:
        return subprocess.Popen([sys.executable, str(AGENT), str(config), step], stderr=log, cwd=REPOSITORY)


def drop_capture(folder: Path, number: int) -> None:
    """A small picture of its own, written under a temporary name and renamed, as many cameras do."""
    rng = np.random.default_rng(number)
    skin = cv2.resize(rng.integers(90, 220, (6, 8, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    _, data = cv2.imencode(".jpg", skin)
    hidden = folder / f".{number}.tmp"
    hidden.write_bytes(data.tobytes())
    hidden.rename(folder / f"capture-{number}.jpg")


def states(database: Path) -> Counter[str]:
    if not database.exists():
        return Counter()
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return Counter(state for (state,) in connection.execute("SELECT state FROM scans WHERE files_written = 1"))
    except sqlite3.OperationalError:  # the agent was killed before the tables were made
        return Counter()
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def finish(config: Path, captures: int) -> None:
    """Run the agent unharmed until everything has its answer and its files, and stop it in order."""
    agent = start(config, "none")
    try:
        database = config.parent / "state" / "dermascan.db"
        wait_until(lambda: sum(states(database).values()) >= captures, f"{captures} scans with their files")
        agent.terminate()
        assert agent.wait(timeout=30) == 0
    finally:
        agent.kill()
        agent.wait()


def check_books(root: Path, captures: int) -> None:
    """Every capture answered exactly once, every event exactly once, no half-written file."""
    connection = sqlite3.connect(root / "state" / "dermascan.db")
    scans = connection.execute("SELECT scan_id, image_sha256, state, result FROM scans").fetchall()
    events = connection.execute("SELECT scan_id, event FROM outbox JOIN outbox_events USING (seq)").fetchall()
    connection.close()
    expected = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "scope-1").glob("*.jpg")}
    assert len(expected) == captures
    assert sorted(sha for _, sha, _, _ in scans) == sorted(expected)
    assert {state for _, _, state, _ in scans} == {"answered"}
    assert sorted(scan_id for scan_id, _ in events) == sorted(scan_id for scan_id, *_ in scans)
    assert {json.loads(event)["subject"] for _, event in events} == {scan_id for scan_id, *_ in scans}
    results = root / "state" / "results"
    names = {f"{scan_id}{suffix}" for scan_id, *_ in scans for suffix in (".json", ".png")}
    assert {path.name for path in results.iterdir()} == names, "a file is missing, or a half-written one was left"
    for scan_id, sha, _, result in scans:
        assert json.loads((results / f"{scan_id}.json").read_bytes())["image_sha256"] == sha
        assert json.loads(result)["scan_id"] == scan_id
        assert cv2.imread(str(results / f"{scan_id}.png")) is not None


@pytest.mark.timeout(180)
@pytest.mark.fault("F11")
def test_killed_at_every_step(write_config: WriteConfig, tmp_path: Path) -> None:
    config = write_config()
    for number, step in enumerate(STEPS):
        drop_capture(tmp_path / "scope-1", number)
        agent = start(config, step)
        try:
            assert agent.wait(timeout=60) == -signal.SIGKILL, f"the agent did not come to the step {step!r}"
        finally:
            agent.kill()
            agent.wait()
        if number % 2:
            # Three deaths during one capture's analysis refuse it, by design; so never more than two in a row here.
            finish(config, number + 1)
    check_books(tmp_path, len(STEPS))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.fault("F11")
@pytest.mark.requirement("R-INT-6", "R-INT-3")
def test_killed_at_any_time(tmp_path: Path) -> None:
    """As often as ``DERMASCAN_KILLS`` says; ``python -m benchmarks.kills`` does the same and gives the figures."""
    killed = run(int(os.environ.get("DERMASCAN_KILLS", "200")), tmp_path)
    assert killed.as_it_has_to_be, str(killed)
    assert killed.shown > killed.captures / 3, "too few answers were seen between two lives to say anything"
