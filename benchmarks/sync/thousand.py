"""A thousand devices and one broker that restarts: how many attempts a second it gets when all of them come back (F17).

Each device is a real publisher with an outbox in memory; some hundred share a process, and each process writes down
when an attempt was made and when the broker greeted.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.messages.envelope import Sender
from agent.sync.connection import Connection
from agent.sync.limits import SyncLimits
from benchmarks.sync.scene import FORGETFUL, Memory, Process, until
from tests.fakes.broker import Broker
from tests.sync.parts import FakeOutbox, publisher, settings

SETTINGS: Final = FORGETFUL | {"allow_anonymous": "true", "max_connections": "-1"}


@dataclass(frozen=True)
class Returned:
    """How they came back."""

    devices: int
    down_s: float
    """For which the broker was away."""
    first_s: int
    """Attempts in the first second after it was killed."""
    most_down: int
    """Attempts in the busiest second while it was away, after the first."""
    most_back: int
    """Attempts in the busiest second after it was there again."""
    total: int
    """Attempts from the kill until all were back."""
    half_s: float
    """From its restart until half of them were greeted."""
    all_s: float
    """Until all were."""
    memory: str
    per_second: Mapping[int, int]
    """Attempts by the second since the kill."""


class DevicesProcess(Process):
    """Some of the devices; a context manager."""

    def __init__(self, first: int, count: int, port: int, log: Path, limits: Mapping[str, float]) -> None:
        self.attempts: list[float] = []
        self.greeted: list[float] = []
        about = json.dumps({"first": first, "count": count, "port": port, "limits": dict(limits)})
        super().__init__([sys.executable, "-m", "benchmarks.sync.thousand", about], log)

    def heard(self, line: str) -> None:
        """``a TIME`` is an attempt, ``g TIME`` a greeting."""
        what, _, at = line.partition(" ")
        (self.attempts if what == "a" else self.greeted).append(float(at))


def measure(
    folder: Path,
    *,
    devices: int = 1000,
    processes: int = 4,
    down_s: float = 30.0,
    limits: Mapping[str, float] | None = None,
    timeout_s: float = 400.0,
) -> Returned:
    """Connect them all, kill the broker, start it again after a while, and wait for all of them."""
    each = devices // processes
    with ExitStack() as stack:
        broker = Broker(folder, settings=SETTINGS).start()
        stack.callback(broker.stop)
        started = [
            stack.enter_context(
                DevicesProcess(place * each, each, broker.port, folder / f"devices-{place}.log", limits or {})
            )
            for place in range(processes)
        ]
        memory = stack.enter_context(Memory.of(started[0].process.pid))
        until(lambda: sum(len(one.greeted) for one in started) >= each * processes, timeout_s, "all are connected")
        before = len([at for one in started for at in one.attempts]), each * processes
        if before[0] != before[1]:
            raise RuntimeError(f"{before[0]} attempts for {before[1]} devices before anything was killed")
        killed = time.monotonic()
        broker.kill()
        time.sleep(down_s)
        broker.start()
        back = time.monotonic()
        until(lambda: sum(len(one.greeted) for one in started) >= 2 * each * processes, timeout_s, "all are back")
        said = memory.said()
    attempts = sorted(at for one in started for at in one.attempts if at >= killed)
    greeted = sorted(at for one in started for at in one.greeted if at >= back)
    return Returned(
        devices=each * processes,
        down_s=back - killed,
        first_s=_most(attempts, killed, killed + 1.0),
        most_down=_most(attempts, killed + 1.0, back),
        most_back=_most(attempts, back, float("inf")),
        total=len(attempts),
        half_s=greeted[len(greeted) // 2] - back,
        all_s=greeted[-1] - back,
        memory=said,
        per_second=dict(sorted(Counter(int(at - killed) for at in attempts).items())),
    )


def _most(times: Sequence[float], begin: float, end: float) -> int:
    """The most of them within any second that begins at one of them."""
    inside = [at for at in times if begin <= at < end]
    most, low = 0, 0
    for high, at in enumerate(inside):
        while at - inside[low] >= 1.0:
            low += 1
        most = max(most, high - low + 1)
    return most


def devices(about: Mapping[str, Any]) -> None:
    """The process: its devices until it is told to end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(256 * 1024)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    out = threading.Lock()

    def say(what: str) -> None:
        with out:
            print(what, time.monotonic(), flush=True)

    attempt, greet = Connection.open, Connection._on_connect  # noqa: SLF001 - from outside, so the product has no line

    def opened(self: Connection) -> None:
        say("a")
        attempt(self)

    def greeted(self: Connection, *arguments: Any) -> None:
        greet(self, *arguments)
        say("g")

    Connection.open, Connection._on_connect = opened, greeted  # type: ignore[method-assign,assignment] # noqa: SLF001
    section = settings(about["port"])
    limits = SyncLimits(**about["limits"])
    started = []
    for number in range(about["first"], about["first"] + about["count"]):
        one = publisher(FakeOutbox(), section, sender=Sender("clinic-1", f"device-{number}", "9.9"), limits=limits)
        one.start()
        started.append(one)
        time.sleep(0.01)  # connected at leisure: the storm is what is measured
    over.wait()
    for one in started:
        one.stop(0.0)


if __name__ == "__main__":
    devices(json.loads(sys.argv[1]))
