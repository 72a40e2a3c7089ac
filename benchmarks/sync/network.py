"""A network that is black-holed, slow or loses packets: nothing is lost, and no answer comes later for it.

In network namespaces of its own (`tests.fakes.wire`): the whole agent on one side, broker and reference cloud on the
other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.captures import JPEG_XGA, distinct, write
from benchmarks.process import AgentProcess, write_config
from benchmarks.sync.scene import FORGETFUL, Books, DeviceProcess, Memory, Scene, read_books, until
from engines.bundle import demo_bundle_folder
from tests.fakes.wire import CLOUD, Wire


@dataclass(frozen=True)
class Weather:
    """What a network does for a while."""

    name: str
    delay_s: float = 0.0
    """One way, in each direction."""
    loss: float = 0.0
    black_hole: bool = False

    def over(self, wire: Wire) -> None:
        """Let the wire do it."""
        wire.delay_s, wire.loss, wire.black_hole = self.delay_s, self.loss, self.black_hole


FINE: Final = Weather("as it should be")
BLACK_HOLE: Final = Weather("black hole: every packet dropped, no FIN", black_hole=True)
SLOW: Final = Weather("600 ms later (round trip)", delay_s=0.3)
LOSSY: Final = Weather("20 % of the packets lost, each way", loss=0.2)
BAD: Final = Weather("600 ms later, 20 % lost, each way", delay_s=0.3, loss=0.2)


@dataclass(frozen=True)
class Streamed:
    """What became of a stream through such a network."""

    weather: Weather
    events: int
    at_once: int
    """Acknowledged by the cloud while the weather lasted."""
    settled_s: float
    """From fine weather to the empty outbox."""
    connections: int
    books: Books
    memory: str


@dataclass(frozen=True)
class Answered:
    """From a file's close to the answer's line in the log, in ms, of two agents that took turns."""

    name: str
    with_sync: tuple[float, ...]
    alone: tuple[float, ...]
    """Of the agent without ``[mqtt]``."""


def percentiles(ms: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and the longest."""
    p50, p95 = (float(value) for value in np.percentile(ms, [50, 95]))
    return p50, p95, max(ms)


def stream(
    folder: Path,
    weather: Weather,
    *,
    events: int = 200,
    per_s: float = 5.0,
    limits: dict[str, float] | None = None,
    settle_s: float = 600.0,
) -> Streamed:
    """Send a stream of events through such weather, then let it clear up.

    Raises:
        NoNamespaces: there can be no such network here.
    """
    with ExitStack() as stack:
        wire = stack.enter_context(Wire())
        scene = stack.enter_context(Scene(folder, FORGETFUL, host=CLOUD, within=wire.within("cloud")))
        cloud = stack.enter_context(scene.cloud())
        until(lambda: cloud.lines, 30, "the cloud's start")
        plan = scene.plan(results=events, per_s=per_s, limits=limits or {})
        device = stack.enter_context(DeviceProcess(plan, within=wire.within("device")))
        memory = stack.enter_context(Memory.of(device.process.pid))
        device.wait_for(lambda word: word.counts["acknowledged"] > 0, 60, "the first event is with the cloud")
        before = device.words[-1].counts["acknowledged"]
        weather.over(wire)
        device.wait_for(lambda word: word.posted >= events, 60 + 2 * events / per_s, "the whole stream")
        during = device.words[-1].counts["acknowledged"] - before
        FINE.over(wire)
        settled = device.wait_for(lambda word: word.waiting == 0, settle_s, "the outbox is empty")
        device.stop()
        cloud.stop()
        connections = device.words[-1].counts["connections"]
        return Streamed(weather, events, during, settled, connections, scene.books(), memory.said())


_MQTT: Final = '[mqtt]\nhost = "{host}"\nport = {port}\nca = "{ca}"\ncert = "{cert}"\nkey = "{key}"\n'


def answers(folder: Path, phases: Sequence[tuple[Weather, int]], every_s: float = 0.6) -> tuple[list[Answered], Books]:
    """Two whole agents with captures dropped in by turns: one that syncs under each weather, one without any sync.

    Args:
        folder: for everything.
        phases: each weather and how many captures each agent gets.
        every_s: between two captures of an agent.

    Raises:
        NoNamespaces: there can be no such network here.
    """
    files = distinct(JPEG_XGA)
    with ExitStack() as stack:
        wire = stack.enter_context(Wire())
        scene = stack.enter_context(Scene(folder, FORGETFUL, host=CLOUD, within=wire.within("cloud")))
        cloud = stack.enter_context(scene.cloud())
        until(lambda: cloud.lines, 30, "the cloud's start")
        section = _MQTT.format(**{key: value for key, value in scene.mqtt("bench").items() if key != "backlog_per_s"})
        agents = []
        for name, more in (("synced", section), ("alone", "")):
            root = folder / name
            config = write_config(root, demo_bundle_folder(), 1, more)
            agents.append((stack.enter_context(AgentProcess(config, wire.within("device"))), root / "scope-0"))
        for agent, scope in agents:
            agent.wait_for("ready:", 60)
            for number in range(5):
                _answer(agent, scope / f"warm-{number}.jpg", next(files))
        found = []
        for place, (weather, count) in enumerate(phases):
            print(f"  {weather.name} ...", file=sys.stderr)
            weather.over(wire)
            took: tuple[list[float], list[float]] = ([], [])
            for number in range(count):
                began = time.monotonic()
                for which in (0, 1) if number % 2 else (1, 0):
                    agent, scope = agents[which]
                    took[which].append(_answer(agent, scope / f"{place}-{number}.jpg", next(files)))
                time.sleep(max(0.0, began + every_s - time.monotonic()))
            found.append(Answered(weather.name, tuple(took[0]), tuple(took[1])))
        FINE.over(wire)
        state = folder / "synced" / "state"
        until(_empty(state, scene.ledger), 900, "the outbox is empty")
        return found, read_books(state, scene.ledger)


def _empty(state: Path, ledger: Path) -> Callable[[], bool]:
    return lambda: read_books(state, ledger).waiting == 0


def _answer(agent: AgentProcess, path: Path, data: bytes) -> float:
    """Write a capture; returns how long its answer took, in ms."""
    closed = write(path.parent, path.name, data)
    return (agent.started + agent.wait_for("answered", 60) - closed) * 1e3


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        for weather in [globals()[word] for word in sys.argv[1:]]:
            print(stream(Path(name, str(id(weather))), weather), flush=True)
