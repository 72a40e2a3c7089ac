"""The processes of a soak: the whole agent, a broker with mutual TLS behind a cable, the reference cloud, a small disk.

Everything is begun and ended from one thread.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from typing_extensions import Self

from agent.demo.network import Network
from benchmarks.sync.scene import FORGETFUL, CloudProcess, Scene
from engines.bundle import demo_bundle_folder
from tests.fakes.broker import free_port
from tests.fakes.outside_world import NoCompiler, OutsideWorld

SCOPES: Final = ("scope-1", "scope-2")
DISK_MB: Final = 512
DISK_MB_A_MINUTE: Final = 45
"""Beside it: as much as is written in a minute, so that nothing is given up for want of room but in that fault."""
END_S: Final = 60.0
_CONFIG: Final = """\
[device]
id = "device-1"
clinic_id = "clinic-1"
state_dir = "{state}"
{scopes}
[inference]
bundle = "{bundle}"
require_trusted = false
ladder = ["cpu"]
deadline_s = 3.0
[store]
quota_mb = {quota_mb}
[mqtt]
host = "127.0.0.1"
port = {mqtt_port}
ca = "{ca}"
cert = "{cert}"
key = "{key}"
[api]
port = {api_port}
"""


@dataclass(frozen=True)
class Life:
    """One start of the agent."""

    number: int
    pid: int
    log: Path
    started: float
    """Monotonic seconds."""


class Agent:
    """``dermascan run``, started again and again; its log of each life lies in a file of its own."""

    def __init__(self, config: Path, logs: Path, environment: dict[str, str] | None = None) -> None:
        self._config, self._logs, self._environment = config, logs, environment
        self._process: subprocess.Popen[bytes] | None = None
        self.lives: list[Life] = []
        self.ready_s: dict[int, float] = {}
        """Of each life: from its start until an engine had passed its golden image."""
        logs.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Begin a life."""
        number = len(self.lives)
        log = self._logs / f"agent-{number:04d}.log"
        with log.open("wb") as words:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent.cli", "run", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        self.lives.append(Life(number, self._process.pid, log, time.monotonic()))

    @property
    def life(self) -> Life:
        """The present one, or the last."""
        return self.lives[-1]

    @property
    def alive(self) -> bool:
        """Whether it runs, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def look(self) -> None:
        """Note when it said that it is ready."""
        life = self.life
        if life.number not in self.ready_s and self.alive and b"ready:" in life.log.read_bytes():
            self.ready_s[life.number] = time.monotonic() - life.started

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    def worker(self) -> psutil.Process | None:
        """The process that owns the engine; None where there is none now."""
        with suppress(psutil.Error):
            found = psutil.Process(self.life.pid).children(recursive=True)
            return max(found, key=lambda process: process.memory_info().rss) if found else None
        return None

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(END_S)

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


class SoakScene:
    """All of it, in a folder; a context manager, which begins all but the agent."""

    def __init__(self, folder: Path, *, disk_mb: int = DISK_MB) -> None:
        self.folder = folder
        self.state, self.scopes = folder / "state", [folder / name for name in SCOPES]
        for made in (self.state, *self.scopes):
            made.mkdir(parents=True, exist_ok=True)
        self.small_disk = _mount(self.state, disk_mb)
        """Why the state folder is on no disk of its own that may be filled; None where it is."""
        self.sync = Scene(folder / "cloud-side", FORGETFUL)
        self.network = Network()
        self.cloud: CloudProcess | None = None
        self.world: OutsideWorld | None = None
        self.no_world: str | None = None
        try:
            self.world = OutsideWorld(folder / "world")
        except NoCompiler as error:
            self.no_world = str(error)
        self.api_port = free_port()
        self.config = self._write_config(disk_mb)
        self.agent = Agent(self.config, folder / "logs", None if self.world is None else self.world.environment)

    @property
    def ledger(self) -> Path:
        """The cloud's."""
        return self.sync.ledger

    def __enter__(self) -> Self:
        self.sync.broker.start()
        self.network.lead_to(self.sync.broker.port)
        self.start_cloud()
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.kill()
        self.network.close()
        self.stop_cloud()
        self.sync.broker.stop()
        if self.world is not None:
            self.world.close()
        if self.small_disk is None:
            subprocess.run(["umount", "--lazy", str(self.state)], check=True)  # noqa: S607

    def start_cloud(self) -> None:
        """Begin to hear."""
        self.cloud = self.sync.cloud()

    def kill_cloud(self) -> None:
        """SIGKILL."""
        if self.cloud is not None:
            self.cloud.kill()
            self.cloud = None

    def stop_cloud(self) -> None:
        """End it in order."""
        if self.cloud is not None:
            self.cloud.stop()
            self.cloud = None

    def _write_config(self, disk_mb: int) -> Path:
        device = self.sync.ca.device("device-1")
        scopes = "".join(f'[[dermoscope]]\nid = "{folder.name}"\nfolder = "{folder}"\n' for folder in self.scopes)
        path = self.folder / "agent.toml"
        path.write_text(
            _CONFIG.format(
                state=self.state,
                scopes=scopes,
                bundle=demo_bundle_folder().absolute(),
                quota_mb=100_000 if self.small_disk is None else disk_mb,
                mqtt_port=self.network.port,
                ca=self.sync.ca.cert,
                cert=device.cert,
                key=device.key,
                api_port=self.api_port,
            ),
            encoding="utf-8",
        )
        return path


def _mount(folder: Path, disk_mb: int) -> str | None:
    """Put a small disk of its own at ``folder``; returns why that cannot be."""
    if os.geteuid() != 0:
        return "a small disk can be mounted by root only"
    options = f"size={disk_mb}m,mode=750"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "dermascan-soak", str(folder)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else f"no small disk can be mounted: {done.stderr.strip()}"
