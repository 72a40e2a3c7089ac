"""The worker process never outlives the agent, and signals meant for the agent do not reach it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def parent_of_worker(folder: Path, fault: str) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    command = [sys.executable, "-m", "tests.engines.orphan_parent", str(folder), fault]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout
        try:
            yield parent, psutil.Process(int(parent.stdout.readline()))
        finally:
            parent.kill()


@pytest.mark.fault("F12")
@pytest.mark.parametrize("fault", ["", "hang", "hang_in_library"])
def test_the_worker_ends_when_the_agent_is_killed(tmp_path: Path, fault: str) -> None:
    with parent_of_worker(tmp_path, fault) as (parent, worker):
        os.kill(parent.pid, signal.SIGKILL)
        killed = time.monotonic()
        worker.wait(5)
    assert time.monotonic() - killed < 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_agent_alone_decides_when_its_worker_ends(tmp_path: Path, number: signal.Signals) -> None:
    with parent_of_worker(tmp_path, "") as (_, worker):
        worker.send_signal(number)
        with pytest.raises(psutil.TimeoutExpired):
            worker.wait(0.3)
