"""Whether a device grows while brokers die, clouds go and networks fail, over minutes enough to tell.

One device, one life: a stream of events, and each minute the cloud is away for a quarter of it, the broker is killed
once, and the network is black-holed, slow, lossy or both for a third of it, in turn.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.memory import slope
from benchmarks.sync.network import BAD, BLACK_HOLE, FINE, LOSSY, SLOW
from benchmarks.sync.scene import FORGETFUL, Books, CloudProcess, DeviceProcess, Memory, Scene, until
from tests.fakes.wire import CLOUD, Wire

WEATHERS: Final = (BLACK_HOLE, SLOW, LOSSY, BAD)
TURN_S: Final = 60.0
AWAY_S: Final = 15.0
BAD_S: Final = 20.0


@dataclass(frozen=True)
class Steady:
    """What became of it; memory in MB, its slope per hour with the 95 % half-width, over the second half."""

    minutes: float
    events: int
    books: Books
    settled_s: float
    connections: int
    halves: tuple[float, float]
    """Mean of each half."""
    peak: float
    per_hour: float
    half: float


def measure(folder: Path, *, turns: int = 12, per_s: float = 20.0, settle_s: float = 600.0) -> Steady:
    """Do it for so many minutes.

    Raises:
        NoNamespaces: there can be no such network here.
    """
    events = int(turns * TURN_S * per_s)
    with ExitStack() as stack:
        wire = stack.enter_context(Wire())
        scene = stack.enter_context(Scene(folder, FORGETFUL, host=CLOUD, within=wire.within("cloud")))
        cloud = stack.enter_context(_cloud(scene))
        plan = scene.plan(results=events, per_s=per_s, say_every_s=1.0)
        device = stack.enter_context(DeviceProcess(plan, within=wire.within("device")))
        memory = stack.enter_context(Memory.of(device.process.pid, every_s=1.0))
        for turn in range(turns):
            print(f"\rminute {turn + 1} of {turns}", end="", file=sys.stderr)
            ends = time.monotonic() + TURN_S
            time.sleep(5.0)
            cloud.stop()
            time.sleep(AWAY_S)
            cloud = stack.enter_context(_cloud(scene))
            scene.broker.kill()
            scene.broker.start()
            time.sleep(5.0)
            WEATHERS[turn % len(WEATHERS)].over(wire)
            time.sleep(BAD_S)
            FINE.over(wire)
            time.sleep(max(0.0, ends - time.monotonic()))
        print(file=sys.stderr)
        values = [megabytes for _, megabytes in memory.samples]
        device.wait_for(lambda word: word.posted >= events, 60 + events / per_s, "the whole stream")
        settled = device.wait_for(lambda word: word.waiting == 0, settle_s, "the outbox is empty")
        device.stop()
        cloud.stop()
        middle = len(values) // 2
        rate, half = slope(values[middle:], 1)  # kB per sample, which is a second
        return Steady(
            turns * TURN_S / 60.0,
            events,
            scene.books(),
            settled,
            device.words[-1].counts["connections"],
            (sum(values[:middle]) / middle, sum(values[middle:]) / (len(values) - middle)),
            max(values),
            rate * 3.6,
            half * 3.6,
        )


def _cloud(scene: Scene) -> CloudProcess:
    cloud = scene.cloud()
    until(lambda: cloud.lines, 30, "the cloud's start")
    return cloud
