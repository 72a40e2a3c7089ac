"""The whole agent as a service manager sees it: killed for memory, wedged, hung worker, a flood of the same trouble."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.cgroup import MemoryGroup, NoGroups, memory_group
from tests.faults.whole import WholeAgent, check_books, drop, rows, until, wait_filed

WriteConfig = Callable[..., Path]
MIB = 1024 * 1024


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    try:
        with memory_group() as made:
            yield made
    except NoGroups as error:
        pytest.skip(str(error))


class FakeManager(threading.Thread):
    """Listens where ``NOTIFY_SOCKET`` says, all the time, as the kernel keeps a few words only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = folder / "notify"
        self._socket.bind(str(address))
        self.environment = os.environ | {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "600000"}
        self.words: list[str] = []
        self._over = False

    def run(self) -> None:
        while not self._over:
            self.words += self._socket.recv(4096).decode().splitlines()

    def heard(self, word: str) -> int:
        """How often a word has come so far."""
        return self.words.count(word)

    def close(self) -> None:
        self._over = True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[FakeManager]:
    made = FakeManager(tmp_path)
    made.start()
    yield made
    made.close()


@pytest.mark.fault("F23")
def test_what_the_kernel_kills_for_memory_loses_no_capture(
    write_config: WriteConfig, tmp_path: Path, group: MemoryGroup
) -> None:
    """A leak anywhere ends like this: the limit is reached, and something of the agent is killed."""
    scope, config = tmp_path / "scope-1", write_config(("deadline_s = 3.0", "deadline_s = 10.0"))
    with WholeAgent(config, within=group.within) as agent:
        agent.wait_ready()
        hashes = drop(scope, 0)
        wait_filed(tmp_path, hashes)
        worker = agent.worker()
        group.limit(group.used + 4 * MIB)
        hashes += drop(scope, 1, 2, width=4000, height=3000)
        until(lambda: group.kills and (agent.process.poll() is not None or not worker.is_running()), "a kill")
        group.limit(None)
        died = agent.process.poll() is not None
        if not died:
            wait_filed(tmp_path, hashes)
            agent.stop()
    if died:
        with WholeAgent(config, within=group.within) as agent:
            wait_filed(tmp_path, hashes)
            agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F23")
def test_fifty_large_captures_stay_below_the_limit_of_a_small_device(
    write_config: WriteConfig, tmp_path: Path, group: MemoryGroup
) -> None:
    group.limit(600 * MIB)
    with WholeAgent(write_config(), within=group.within) as agent:
        agent.wait_ready()
        hashes = drop(tmp_path / "scope-1", *range(12), width=4000, height=3000)
        hashes += drop(tmp_path / "scope-1", *range(12, 50))
        wait_filed(tmp_path, hashes, 28)
        agent.stop()
    assert group.kills == 0
    check_books(tmp_path, hashes)


@pytest.mark.fault("F25")
@pytest.mark.parametrize("part", ["main", "store", "intake"])
def test_an_agent_of_which_a_part_is_wedged_is_silent(
    write_config: WriteConfig, tmp_path: Path, manager: FakeManager, part: str
) -> None:
    config = write_config(("deadline_s = 3.0", "deadline_s = 0.5"))
    changes = (part, "agent.upkeep.notify:LIMIT_S=0.5")
    with WholeAgent(config, *changes, environment=manager.environment) as agent:
        agent.wait_ready()
        until(lambda: manager.heard("READY=1"), "READY")
        until(lambda: manager.heard("WATCHDOG=1") >= 3, "a fed watchdog")
        (tmp_path / "wedge").touch()
        drop(tmp_path / "scope-1", 1)  # whoever waits for work gets some
        end = time.monotonic() + 15.0
        before = -1
        while (now := manager.heard("WATCHDOG=1")) != before:  # none for seven of its periods
            assert time.monotonic() < end, "it is wedged, and says that it lives"
            before = now
            time.sleep(1.5)


@pytest.mark.fault("F12")
def test_a_worker_that_is_killed_or_hangs_costs_no_capture_its_right_answer(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    scope, config = tmp_path / "scope-1", write_config(("deadline_s = 3.0", "deadline_s = 1.0"))
    hashes: list[str] = []
    with WholeAgent(config) as agent:
        agent.wait_ready()
        for number, harm in enumerate((psutil.Process.kill, psutil.Process.suspend, psutil.Process.kill)):
            worker = agent.worker()
            hashes += drop(scope, 2 * number)
            harm(worker)
            hashes += drop(scope, 2 * number + 1)
            wait_filed(tmp_path, hashes)
            until(lambda worker=worker: not worker.is_running(), "the old one's end")  # type: ignore[misc]
        agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F28")
def test_the_same_trouble_ten_thousand_times_is_a_few_lines(write_config: WriteConfig, tmp_path: Path) -> None:
    """A quota that is used up, a broker that refuses, a folder that is not there: each is tried again and again."""
    scope = tmp_path / "scope-1"
    section = '[mqtt]\nhost = "127.0.0.1"\nport = 9\n\n[[dermoscope]]\nid = "away"\nfolder = "away"\n\n[store]'
    changes = (
        "agent.analysts:FULL_RETRY_S=0.0005",
        "agent.records.space:PAUSE_SHARE=0.0",
        "agent.records.space:RESUME_SHARE=0.0",
        "agent.upkeep.rounds:UPKEEP_S=0.001",
        "agent.intake.watch:_ROOT_CHECK_S=0.004",
    )
    with WholeAgent(write_config(("[store]", section)), *changes) as agent:
        agent.wait_ready()
        drop(scope, *range(20))
        agent.wait_said("intake is paused")
        time.sleep(3.0)
        assert not rows(tmp_path, "SELECT 1 FROM scans")
        agent.stop()
        lines = agent.said.splitlines()
    assert len(lines) < 100, f"{len(lines)} lines, the last ones: {lines[-3:]}"
