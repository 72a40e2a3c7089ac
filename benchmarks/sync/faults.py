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

from benchmarks.sync.kills import STEPS
from benchmarks.sync.scene import FORGETFUL, Books, DeviceProcess, Memory, Scene, until
from cloud.consumer import Consumer
from cloud.ledger import Ledger
from cloud.mqtt import BrokerSettings

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
    """The reference cloud's hearing side, which comes and goes; the broker is to keep its session meanwhile."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        files = scene.ca.device("cloud")
        broker = scene.broker
        self._settings = BrokerSettings(broker.host, broker.port, scene.ca.cert, files.cert, files.key)
        self._now: tuple[Ledger, Consumer] | None = None

    def come(self) -> None:
        """Hear, from now on."""
        if self._now is None:
            ledger = Ledger(self._scene.ledger)
            consumer = Consumer(ledger, self._settings)
            consumer.start()
            self._now = ledger, consumer

    def go(self) -> None:
        """Hear nothing, from now on."""
        if self._now is not None:
            ledger, consumer = self._now
            consumer.stop()
            ledger.close()
            self._now = None


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
        consumer = _Consumer(scene)
        stack.callback(consumer.go)
        consumer.come()
        plan = scene.plan(mqtt=scene.mqtt(**mqtt), results=events, per_s=per_s, limits=limits or {})
        started = time.monotonic()
        device = stack.enter_context(DeviceProcess(plan))
        memory = stack.enter_context(Memory.of(device.process.pid))
        device.wait_for(lambda word: word.posted > 0, 30, "the first event")
        turn_s = events / per_s / kills / 2
        for kill in range(kills):
            # Half a turn there, half a turn away; the broker dies in the middle of the one, or at the end of the other.
            consumer.come()
            time.sleep(turn_s / 2)
            if kill % 2:
                _kill(scene)
            time.sleep(turn_s / 2)
            consumer.go()
            time.sleep(turn_s)
            if not kill % 2:
                _kill(scene)
        device.wait_for(lambda word: word.posted >= events, 60 + events / per_s, "the end of the stream")
        consumer.come()
        settled = device.wait_for(lambda word: word.waiting == 0, settle_s, "the outbox is empty")
        device.stop()
        consumer.go()
        return Killed(kills, Counter(), time.monotonic() - started, settled, scene.books(), memory.said())


def _kill(scene: Scene) -> None:
    scene.broker.kill()
    scene.broker.start()


def agent_kills(
    folder: Path,
    *,
    kills: int = 100,
    results: int = 40,
    seed: int = 0,
    limits: dict[str, float] | None = None,
    random_every: int = 3,
    settle_s: float = 900.0,
) -> Killed:
    """SIGKILL the agent between commit, publish, PUBACK and acknowledgement, on purpose and at random.

    Half of the time the consumer is away, for two lives in a row, where the step does not need it: the second sends
    what the first had sent.

    Args:
        folder: for everything.
        kills: how often: each step in turn.
        random_every: each so manieth time it is a random moment instead; never where 0.
        results: new events of each life.
        seed: of the random moments, and of the how manieth time at a step it dies.
        limits: of the publisher that differ from the usual ones.
        settle_s: how long the rest may take.
    """
    rng, steps, first = random.Random(seed), Counter[str](), 0
    with ExitStack() as stack:
        scene = stack.enter_context(Scene(folder))
        consumer = _Consumer(scene)
        stack.callback(consumer.go)
        consumer.come()
        started = time.monotonic()
        for kill in range(kills):
            at_random = random_every > 0 and kill % random_every == random_every - 1
            step = AT_RANDOM if at_random else STEPS[(kill - steps[AT_RANDOM]) % len(STEPS)]
            steps[step] += 1
            if kill % 4 in {1, 2} and "cloud's word" not in step:
                consumer.go()
            else:
                consumer.come()
            plan = scene.plan(first=first, results=results, per_s=200.0, limits=limits or {})
            if step != AT_RANDOM:
                # Commits and the cloud's words are of several events at once, so there are fewer of them.
                often = max(1, results // 20 if "commit" in step or "cloud's word" in step else results // 2)
                plan = scene.plan(**(vars(plan) | {"kill": step, "nth": rng.randint(1, often)}))
            device = DeviceProcess(plan)
            if step == AT_RANDOM:
                device.wait_for(lambda word: word.counts["sent"] > 0, 30, "the first event is sent")
                time.sleep(rng.uniform(0.0, 0.4))
                device.kill()
            else:
                until(lambda: device.process.poll() is not None or _at_rest(device, results), 60, step)  # noqa: B023
                if device.process.poll() is None:  # it never came there so often
                    steps.update({step: -1, AT_RANDOM: 1})
                device.kill()
                if device.process.returncode != -signal.SIGKILL:
                    raise RuntimeError(f"the device ended by itself ({device.process.returncode}): {step}")
            first += results
            print(f"\r{kill + 1} of {kills} deaths", end="", file=sys.stderr)
        print(file=sys.stderr)
        consumer.come()
        with DeviceProcess(scene.plan(limits=limits or {})) as device, Memory.of(device.process.pid) as memory:
            settled = device.wait_for(lambda word: word.waiting == 0, settle_s, "the outbox is empty")
            device.stop()
        consumer.go()
        return Killed(kills, steps, time.monotonic() - started, settled, scene.books(), memory.said())


def _at_rest(device: DeviceProcess, results: int) -> bool:
    return device.now is not None and device.now.posted >= results and device.now.waiting == 0


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        print(globals()[sys.argv[1]](Path(name), **eval(sys.argv[2])))  # noqa: S307
