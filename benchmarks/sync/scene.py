"""A broker, the reference cloud and a device, each a process of its own, and what the books of both sides say."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from typing_extensions import Self

from benchmarks.sync.device import Plan, Word
from tests.fakes.broker import Broker
from tests.fakes.certificates import CertificateAuthority

FORGETFUL: Final = {"autosave_on_changes": "false", "autosave_interval": "1800"}
"""As Debian ships mosquitto: what it holds is written every half hour, and a crash forgets all since."""
SAVING: Final = {"autosave_on_changes": "true", "autosave_interval": "1"}
"""Written at each change: after a crash the broker knows its sessions, and some of what it held."""


def until(condition: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Wait for a condition; returns the seconds that it took.

    Raises:
        TimeoutError: it did not come about.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_s:
            raise TimeoutError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - started


class Process:
    """A child with its standard output as lines, and its memory watched."""

    def __init__(self, command: Sequence[str], log: Path, *, within: Sequence[str] = ()) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen([*within, *command], stdout=subprocess.PIPE, stderr=self._log, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - for the type checker
        for line in self.process.stdout:
            self.heard(line)

    def heard(self, line: str) -> None:
        """A line of its standard output."""
        self.lines.append(line)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self._end()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Tell it to end, and wait."""
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._end()

    def _end(self) -> None:
        self.process.wait(30.0)
        self._reader.join(10.0)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.stop()


class CloudProcess(Process):
    """``dermascan cloud``: hears the devices at a broker, and answers pictures where asked to."""

    def __init__(self, ledger: Path, options: Sequence[str], *, within: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "agent.cli", "cloud", "--ledger", str(ledger), *options]
        super().__init__(command, ledger.with_suffix(".log"), within=within)


class DeviceProcess(Process):
    """`benchmarks.sync.device` with a plan."""

    def __init__(self, plan: Plan, *, within: Sequence[str] = ()) -> None:
        self.words: list[Word] = []
        Path(plan.state_dir).mkdir(parents=True, exist_ok=True)
        log = Path(plan.state_dir) / "device.log"
        command = [sys.executable, "-m", "benchmarks.sync.device", json.dumps(asdict(plan))]
        super().__init__(command, log, within=within)

    def heard(self, line: str) -> None:
        """A word of the device's; half a line is what a kill leaves."""
        with suppress(ValueError):
            self.words.append(Word(**json.loads(line)))

    @property
    def now(self) -> Word | None:
        """Its last word."""
        return self.words[-1] if self.words else None

    def wait_for(self, condition: Callable[[Word], bool], timeout_s: float, what: str) -> float:
        """Wait for a word that fulfils a condition; returns the seconds that it took.

        Raises:
            TimeoutError: it did not come.
            RuntimeError: the device ended before.
        """

        def fulfilled() -> bool:
            if (now := self.now) is not None and condition(now):
                return True
            if self.process.poll() is not None:
                raise RuntimeError(f"the device ended ({self.process.returncode}) before: {what}")
            return False

        return until(fulfilled, timeout_s, what)


@dataclass
class Memory:
    """Resident memory of a process over time; a context manager."""

    process: psutil.Process
    every_s: float = 0.5
    samples: list[tuple[float, float]] = field(default_factory=list)
    """(seconds, MB of 1e6 bytes)"""

    @classmethod
    def of(cls, pid: int, every_s: float = 0.5) -> Memory:
        """Of the process with this number."""
        return cls(psutil.Process(pid), every_s)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        started = time.monotonic()
        with suppress(psutil.Error):
            while True:
                if (resident := self.process.memory_info().rss) > 0:  # 0: it has ended
                    self.samples.append((time.monotonic() - started, resident / 1e6))
                if self._over.wait(self.every_s):
                    return

    def said(self) -> str:
        """Start, end, peak, and the slope over the second half, in words."""
        if len(self.samples) < 4:
            return "too short to tell"
        times, values = np.array(self.samples).T
        half = len(values) // 2
        slope = float(np.polyfit(times[half:], values[half:], 1)[0]) * 60.0
        tenth = max(1, len(values) // 10)  # the first tenth is starting up
        return (
            f"{values[tenth]:.1f} MB at the start, {values[-1]:.1f} MB at the end, peak {values.max():.1f} MB, "
            f"second half {slope:+.2f} MB a minute"
        )


@dataclass(frozen=True)
class Books:
    """What the device says that it sent against what the cloud's ledger holds."""

    posted: int
    """Events that ever were in the outbox."""
    acknowledged: int
    waiting: int
    dead: int
    lost: int
    """Not in the ledger, though the device has forgotten them or there is nothing more on its way."""
    twice: int
    """Events that are in the ledger more than once."""
    changed: int
    """Events whose bytes in the ledger are not those of the outbox."""
    duplicates_removed: int
    """Times that an event came again and was passed over."""

    @property
    def in_order(self) -> bool:
        """Nothing lost, nothing twice, nothing left, nothing given up."""
        return not (self.lost or self.twice or self.changed or self.waiting or self.dead) and self.posted > 0


def read_books(state_dir: Path, ledger: Path) -> Books:
    """Compare the two databases, event by event; both may be in use."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as cloud:
        heard = cloud.execute("SELECT event_id, event FROM events").fetchall()
        (duplicates,) = cloud.execute("SELECT coalesce(sum(duplicates), 0) FROM streams").fetchone()
    with closing(sqlite3.connect(f"file:{state_dir / 'dermascan.db'}?mode=ro", uri=True)) as device:
        rows = device.execute(
            "SELECT event_id, state, event FROM outbox LEFT JOIN outbox_events USING (seq)"
        ).fetchall()
    known = {event_id: event.encode() for event_id, event in heard}
    states = [state for _, state, _ in rows]
    return Books(
        posted=len(rows),
        acknowledged=states.count("acknowledged"),
        waiting=states.count("waiting"),
        dead=states.count("dead"),
        lost=sum(event_id not in known for event_id, state, _ in rows if state != "waiting"),
        twice=len(heard) - len(known),
        changed=sum(known.get(event_id, event) != event for event_id, _, event in rows),
        duplicates_removed=int(duplicates),
    )


class Scene:
    """A folder, a CA, a broker that asks for certificates, and how to begin the others. A context manager."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = FORGETFUL, **broker: Any) -> None:
        self.folder = folder
        self.ca = CertificateAuthority(folder / "ca")
        self.broker = Broker(folder / "broker", self.ca, settings, **broker)
        self.ledger = folder / "cloud.db"
        self._cloud_files = self.ca.device("cloud")

    def __enter__(self) -> Self:
        self.broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.stop()

    def cloud(self, *more: str) -> CloudProcess:
        """The reference cloud at this broker."""
        files = self._cloud_files
        return CloudProcess(
            self.ledger,
            [
                *("--broker", f"{self.broker.host}:{self.broker.port}", "--ca", str(self.ca.cert)),
                *("--cert", str(files.cert), "--key", str(files.key), *more),
            ],
            within=self.broker.within,
        )

    def quick_cloud(self) -> Process:
        """`benchmarks.sync.quick_cloud` at this broker."""
        files = self._cloud_files
        where = (self.broker.host, str(self.broker.port), str(self.ca.cert), str(files.cert), str(files.key))
        return Process([sys.executable, "-m", "benchmarks.sync.quick_cloud", *where], self.folder / "quick.log")

    def mqtt(self, device_id: str = "device-1", **more: Any) -> dict[str, Any]:
        """Section ``[mqtt]`` of a device at this broker."""
        files = self.ca.device(device_id)
        return {
            "host": self.broker.host,
            "port": self.broker.port,
            "ca": str(self.ca.cert),
            "cert": str(files.cert),
            "key": str(files.key),
            "backlog_per_s": 1_000_000.0,
            **more,
        }

    def plan(self, **more: Any) -> Plan:
        """Of the device of this scene."""
        return Plan(**{"state_dir": str(self.folder / "state"), "mqtt": self.mqtt(), **more})

    def books(self) -> Books:
        """As they stand."""
        return read_books(self.folder / "state", self.ledger)
