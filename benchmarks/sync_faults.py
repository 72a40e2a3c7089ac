"""Kill the broker, kill the agent: whatever happens in between, the cloud's books and the device's must agree."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.sync_kills import STEPS
from benchmarks.sync_scene import FORGETFUL, Books, CloudProcess, DeviceProcess, Memory, Scene, until

AT_RANDOM: Final = "at a random moment"


@dataclass(frozen=True)
class Killed:
    """What became of a stream with deaths in it."""

    kills: int
    steps: Counter[str]
    """Of the agent's deaths: where."""
    seconds: float
    settled_s: float
    """From the last event's commit, with everything up again, to the empty outbox."""
    books: Books
    memory: str


class _Consumer:
    """The reference cloud, away half of the time: killed and begun again in turn."""

    def __init__(self, scene: Scene, turn_s: float) -> None:
        self._scene, self._turn_s = scene, turn_s
        self._process: CloudProcess | None = scene.cloud()
        self._next = time.monotonic() + turn_s

    def look(self, *, over: bool = False) -> None:
        """Change over where it is time; be there for good where all is over."""
        if over:
            self._process = self._process or self._scene.cloud()
        elif time.monotonic() >= self._next:
            self._next += self._turn_s
            if self._process is None:
                self._process = self._scene.cloud()
            else:
                self._process.kill()
                self._process = None

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()
            self._process = None


def broker_kills(
    folder: Path,
    *,
    events: int = 5000,
    kills: int = 10,
    per_s: float = 80.0,
    settings: dict[str, str] | None = None,
    limits: dict[str, float] | None = None,
    settle_s: float = 900.0,
    **mqtt: Any,
) -> Killed:
    """SIGKILL the broker in a stream of events whose consumer is away half of the time.

    Args:
        folder: for everything.
        events: of the stream.
        kills: spread over the stream.
        per_s: events a second.
        settings: of the broker; as Debian ships it where None.
        limits: of the publisher that differ from the usual ones.
        settle_s: how long the rest may take.
        mqtt: what is to differ in ``[mqtt]``.
    """
    with ExitStack() as stack:
        scene = stack.enter_context(Scene(folder, settings or FORGETFUL))
        length_s = events / per_s
        consumer = _Consumer(scene, length_s / (2 * kills) * 1.5)  # so that some kills find it there and some do not
        stack.callback(consumer.stop)
        plan = scene.plan(mqtt=scene.mqtt(**mqtt), results=events, per_s=per_s, limits=limits or {})
        started = time.monotonic()
        device = stack.enter_context(DeviceProcess(plan))
        memory = stack.enter_context(Memory.of(device.process.pid))
        device.wait_for(lambda word: word.posted > 0, 30, "the first event")
        begin = time.monotonic()
        moments = [begin + length_s * (number + 0.5) / kills for number in range(kills)]
        while not (device.now and device.now.posted >= events):
            consumer.look()
            if moments and time.monotonic() >= moments[0]:
                moments.pop(0)
                scene.broker.kill()
                scene.broker.start()
            if device.process.poll() is not None or time.monotonic() > begin + 3 * length_s + 60:
                raise RuntimeError("the device did not come to the end of its stream")
            time.sleep(0.02)
        consumer.look(over=True)
        settled = device.wait_for(lambda word: word.waiting == 0, settle_s, "the outbox is empty")
        device.stop()
        consumer.stop()
        return Killed(kills, Counter(), time.monotonic() - started, settled, scene.books(), memory.said())


def agent_kills(
    folder: Path,
    *,
    kills: int = 100,
    results: int = 40,
    seed: int = 0,
    limits: dict[str, float] | None = None,
    settle_s: float = 900.0,
) -> Killed:
    """SIGKILL the agent between commit, publish, PUBACK and acknowledgement, on purpose and at random.

    Args:
        folder: for everything.
        kills: how often; each step in turn, and every third time a random moment.
        results: new events of each life.
        seed: of the random moments, and of the how manieth time at a step it dies.
        limits: of the publisher that differ from the usual ones.
        settle_s: how long the rest may take.
    """
    rng, steps, first = random.Random(seed), Counter[str](), 0
    with Scene(folder) as scene, scene.cloud() as cloud:
        until(lambda: cloud.lines, 30, "the cloud's start")
        started = time.monotonic()
        for kill in range(kills):
            step = AT_RANDOM if kill % 3 == 2 else STEPS[(kill - kill // 3) % len(STEPS)]
            steps[step] += 1
            plan = scene.plan(first=first, results=results, per_s=200.0, limits=limits or {})
            if step != AT_RANDOM:
                often = results if "publish" in step or "PUBACK is noted" in step else 3
                plan = scene.plan(**(vars(plan) | {"kill": step, "nth": rng.randint(1, often)}))
            device = DeviceProcess(plan)
            if step == AT_RANDOM:
                device.wait_for(lambda word: word.counts["sent"] > 0, 30, "the first event is sent")
                time.sleep(rng.uniform(0.0, 0.4))
                device.kill()
            else:
                until(lambda: device.process.poll() is not None, 30, f"the death {step}")  # noqa: B023
                device.kill()
                if device.process.returncode != -signal.SIGKILL:
                    raise RuntimeError(f"the device ended by itself ({device.process.returncode}): {step}")
            first += results
            print(f"\r{kill + 1} of {kills} deaths", end="", file=sys.stderr)
        print(file=sys.stderr)
        with DeviceProcess(scene.plan(limits=limits or {})) as device, Memory.of(device.process.pid) as memory:
            settled = device.wait_for(lambda word: word.waiting == 0, settle_s, "the outbox is empty")
            device.stop()
        cloud.stop()
        return Killed(kills, steps, time.monotonic() - started, settled, scene.books(), memory.said())


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        print(globals()[sys.argv[1]](Path(name), **eval(sys.argv[2])))  # noqa: S307
