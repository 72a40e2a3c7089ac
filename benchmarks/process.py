"""The agent as a process of its own, to measure what an administrator would see: start, memory, idle processor time."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil
from typing_extensions import Self

CONFIG = """
[device]
id = "bench"
clinic_id = "bench"
state_dir = "{state}"
{dermoscopes}
[inference]
bundle = "{bundle}"
require_trusted = false
ladder = ["cpu"]
deadline_s = 30.0
[store]
quota_mb = 100000
"""


def write_config(root: Path, bundle: Path, folders: int, more: str = "") -> Path:
    """Write a configuration with ``folders`` dermoscopes (``root/scope-0`` ...) and ``more``; returns its path."""
    blocks = []
    for number in range(folders):
        folder = root / f"scope-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        blocks.append(f'[[dermoscope]]\nid = "scope-{number}"\nfolder = "{folder}"\n')
    path = root / "agent.toml"
    path.write_text(CONFIG.format(state=root / "state", dermoscopes="".join(blocks), bundle=bundle.absolute()) + more)
    return path


class AgentProcess:
    """``dermascan run`` as a child process, ``within`` another command; a context manager."""

    def __init__(self, config: Path, within: Sequence[str] = ()) -> None:
        self.started = time.monotonic()
        command = [*within, sys.executable, "-m", "agent.cli", "run", "--config", str(config)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stderr or ():
            self._lines.put(line)

    def wait_for(self, text: str, timeout_s: float) -> float:
        """Wait for a log line that holds ``text``; returns the seconds since the start."""
        seen = []
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if text in line:
                return time.monotonic() - self.started
            seen.append(line)
        raise TimeoutError(f"the agent did not say {text!r} in {timeout_s} s; it said: {''.join(seen[-20:])}")

    @property
    def agent(self) -> psutil.Process:
        """The agent itself."""
        return psutil.Process(self._process.pid)

    @property
    def worker(self) -> psutil.Process:
        """The worker process below it."""
        (worker,) = self.agent.children(recursive=True)
        return worker

    def cpu_seconds(self) -> float:
        """Processor time of the agent and its worker so far."""
        return sum(sum(process.cpu_times()[:2]) for process in (self.agent, self.worker))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)
        self._reader.join(10)
        if self._process.stderr is not None:
            self._process.stderr.close()


def resident_mb(process: psutil.Process) -> float:
    """Resident memory now, in MB (1e6 bytes)."""
    return float(process.memory_info().rss) / 1e6


def peak_mb(process: psutil.Process) -> float:
    """Highest resident memory so far (VmHWM), in MB (1e6 bytes)."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this kernel does not tell VmHWM")
