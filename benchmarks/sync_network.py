"""A network that is black-holed, slow or loses packets: nothing is lost, and no answer comes later for it.

In network namespaces of its own (`tests.fakes.wire`): the whole agent on one side, broker and reference cloud on the
other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.captures import JPEG_XGA, distinct, write
from benchmarks.process import AgentProcess, write_config
from benchmarks.sync_scene import FORGETFUL, Books, DeviceProcess, Memory, Scene, read_books, until
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
    """From a file's close to the answer's line in the log, in ms."""

    name: str
    ms: tuple[float, ...]

    def percentiles(self) -> tuple[float, float, float]:
        """p50, p95 and the longest."""
        p50, p95 = (float(value) for value in np.percentile(self.ms, [50, 95]))
        return p50, p95, max(self.ms)


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


def answers(folder: Path, phases: Sequence[tuple[Weather, int]], every_s: float = 0.4) -> tuple[list[Answered], Books]:
    """The whole agent with captures dropped in, under each weather in turn, and without any sync before and after.

    Args:
        folder: for everything.
        phases: each weather and how many captures.
        every_s: between two captures.

    Raises:
        NoNamespaces: there can be no such network here.
    """
    files, found = distinct(JPEG_XGA), []
    count = phases[0][1]
    for when in ("before", "after"):
        with AgentProcess(write_config(folder / f"alone-{when}", demo_bundle_folder(), 1)) as alone:
            alone.wait_for("ready:", 60)
            scope = folder / f"alone-{when}" / "scope-0"
            _drop(alone, scope, files, 5, every_s=every_s, name="warm")
            found.append(
                Answered(f"no [mqtt] at all ({when})", _drop(alone, scope, files, count, every_s=every_s, name="alone"))
            )
        if when == "before":
            between, books = _with_sync(folder, phases, files, every_s)
            found += between
    return found, books


def _with_sync(
    folder: Path, phases: Sequence[tuple[Weather, int]], files: Iterator[bytes], every_s: float
) -> tuple[list[Answered], Books]:
    with ExitStack() as stack:
        wire = stack.enter_context(Wire())
        scene = stack.enter_context(Scene(folder, FORGETFUL, host=CLOUD, within=wire.within("cloud")))
        cloud = stack.enter_context(scene.cloud())
        until(lambda: cloud.lines, 30, "the cloud's start")
        section = _MQTT.format(**{key: value for key, value in scene.mqtt("bench").items() if key != "backlog_per_s"})
        config = write_config(folder, demo_bundle_folder(), 1, section)
        agent = stack.enter_context(AgentProcess(config, wire.within("device")))
        agent.wait_for("ready:", 60)
        _drop(agent, folder / "scope-0", files, 5, every_s=every_s, name="warm")
        found = []
        for place, (weather, count) in enumerate(phases):
            print(f"  {weather.name} ...", file=sys.stderr)
            weather.over(wire)
            found.append(
                Answered(
                    weather.name, _drop(agent, folder / "scope-0", files, count, every_s=every_s, name=f"phase-{place}")
                )
            )
        FINE.over(wire)
        state = folder / "state"
        until(_empty(state, scene.ledger), 900, "the outbox is empty")
        return found, read_books(state, scene.ledger)


def _empty(state: Path, ledger: Path) -> Callable[[], bool]:
    return lambda: read_books(state, ledger).waiting == 0


def _drop(
    agent: AgentProcess, folder: Path, files: Iterator[bytes], count: int, *, every_s: float, name: str
) -> tuple[float, ...]:
    """Write captures one after the other; returns how long each answer took, in ms."""
    took = []
    for number in range(count):
        began = time.monotonic()
        closed = write(folder, f"{name}-{number}.jpg", next(files))
        answered = agent.started + agent.wait_for("answered", 60)
        took.append((answered - closed) * 1e3)
        time.sleep(max(0.0, began + every_s - time.monotonic()))
    return tuple(took)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        for weather in [globals()[word] for word in sys.argv[1:]]:
            print(stream(Path(name, str(id(weather))), weather), flush=True)
