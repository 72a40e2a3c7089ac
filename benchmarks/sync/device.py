"""A device without pictures: a real store and a real publisher in a process of their own, which may kill itself.

It reads a :class:`Plan` as JSON from its command line, writes each :class:`Word` as a JSON line, and ends in order with
SIGTERM.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.answer.heatmap import heatmap_png
from agent.config import MqttSection
from agent.intake.capture import FileStamp
from agent.memory import Tidying, give_memory_back
from agent.messages.catalogue import RESULT
from agent.messages.envelope import Sender
from agent.messages.examples import EXAMPLES
from agent.records.messages import event_id_of, scan_id_of
from agent.records.store import Clocks, Store
from agent.sync.inbox import Inbox
from agent.sync.limits import SyncLimits
from agent.sync.publisher import Publisher
from benchmarks.sync.kills import arm

STAMP: Final = FileStamp(0, 0, 0, 0, 0)
TOGETHER: Final = 100
"""Results that may be on their way into the store at once while a backlog is made."""


@dataclass(frozen=True)
class Plan:
    """What a device is to do in this life."""

    state_dir: str
    mqtt: Mapping[str, Any]
    """Section ``[mqtt]``."""
    device_id: str = "device-1"
    first: int = 0
    """Number of the first result of this life."""
    results: int = 0
    per_s: float = 0.0
    """0: as fast as the store takes them."""
    fresh_every_s: float = 0.0
    """One more result each so many seconds, whose way is timed."""
    kill: str = "none"
    """Step at which the process kills itself."""
    nth: int = 1
    """The how manieth time it comes there."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """What is to differ from the publisher's usual limits."""
    say_every_s: float = 0.1
    count_every: int = 1
    """The outbox is counted anew for every so manieth word, which costs the more the longer it is."""


@dataclass(frozen=True)
class Word:
    """How the device stands."""

    at: float
    """Monotonic seconds, which all processes share."""
    posted: int
    """Results of this life that are durable."""
    waiting: int
    counts: dict[str, int]
    phase: str
    fresh_ms: list[float]
    """Of the timed results: from their commit until the cloud's word about them had been kept."""
    fresh_open: int
    """Timed results that the cloud has said nothing about yet."""


class Results:
    """Puts results into the store as the daemon does, without a picture."""

    def __init__(self, store: Store, device_id: str, clinic_id: str) -> None:
        self._store, self._device_id = store, device_id
        data = {key: value for key, value in EXAMPLES[RESULT][0].event["data"].items() if key != "state"}
        smooth = np.add.outer(np.hanning(14), np.hanning(14)).astype(np.float32)
        noise = np.random.default_rng(0).random((14, 14), np.float32)
        data["attention_map"] = base64.b64encode(
            heatmap_png((smooth + np.float32(0.05) * noise).astype(np.float32))
        ).decode()  # as large as real ones
        self._data = data | {"clinic_id": clinic_id, "device_id": device_id}

    def add(self, number: int) -> tuple[str, Future[None]]:
        """One more; gives its event's id, and a future that is kept when it is durable."""
        identity = f"bench:{number}"
        scan_id = scan_id_of(self._device_id, identity)
        self._store.claim(identity, None, Path(f"/bench/{number}.jpg"), "scope-1", STAMP)
        answer = json.dumps(self._data | {"scan_id": scan_id})
        return event_id_of(scan_id, RESULT.type), self._store.answer(scan_id, answer, "cpu")

    def add_many(self, numbers: Iterable[int]) -> int:
        """Many, as fast as the store takes them; gives how many."""
        going: list[Future[None]] = []
        count = 0
        for number in numbers:
            going.append(self.add(number)[1])
            count += 1
            if len(going) >= TOGETHER:
                going.pop(0).result()
        for future in going:
            future.result()
        return count


def open_store(state_dir: Path, device_id: str, clinic_id: str = "clinic-1") -> Store:
    """The device's records."""
    state_dir.mkdir(parents=True, exist_ok=True)
    return Store.open(
        state_dir,
        device_id,
        100_000,
        clinic_id=clinic_id,
        software_version="9.9",
        clocks=Clocks(trusted=lambda: True),
    )


class Device:
    """Lives by its plan until it is told to end, or kills itself."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        sender = Sender("clinic-1", plan.device_id, "9.9")
        self.store = open_store(Path(plan.state_dir), plan.device_id)
        section = MqttSection.model_validate(plan.mqtt)
        limits = SyncLimits(**plan.limits)  # type: ignore[arg-type]
        self.sync = Publisher(self.store, Inbox(self.store, sender, dict), section, sender, limits=limits)
        self.store.on_posted = self.sync.wake
        self._results = Results(self.store, plan.device_id, "clinic-1")
        self._posted = 0
        self._committed: dict[str, float] = {}
        self._fresh_ms: list[float] = []
        self._over = threading.Event()
        self._stats = self.store.outbox_stats()
        self._keep_times()

    def _keep_times(self) -> None:
        """Note when the outbox has kept the cloud's word on a timed result."""
        acknowledge = self.store.outbox_acknowledge

        def timed(event_ids: Iterable[str]) -> Future[int]:
            ids = tuple(event_ids)
            done = acknowledge(ids)
            done.add_done_callback(lambda _: self._arrived(ids))
            return done

        self.store.outbox_acknowledge = timed  # type: ignore[method-assign]

    def _arrived(self, event_ids: Iterable[str]) -> None:
        for event_id in event_ids:
            if (committed := self._committed.pop(event_id, None)) is not None:
                self._fresh_ms.append((time.monotonic() - committed) * 1e3)

    def run(self) -> None:
        """Until the end."""
        signal.signal(signal.SIGTERM, lambda *_: self._over.set())
        self._say()
        self.sync.start()
        adding = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("results", self._add_results), ("fresh", self._add_fresh))
        ]
        for thread in adding:
            thread.start()
        words, tidying = 0, Tidying(lambda: True)
        while not self._over.wait(self.plan.say_every_s):
            words += 1
            tidying.look()  # as the daemon does
            self._say(anew=words % self.plan.count_every == 0)
        until = time.monotonic() + 5.0
        for thread in adding:
            thread.join(1.0)  # a result that is being added gets its end, and its time, too
        while self._committed and time.monotonic() < until:  # a timed result that is on its way gets its time
            time.sleep(0.02)
        self.sync.stop()
        self._say()
        self.store.close()

    def _add_results(self) -> None:
        plan = self.plan
        begin = time.monotonic()
        for number in range(plan.results):
            if plan.per_s and self._over.wait(max(0.0, begin + number / plan.per_s - time.monotonic())):
                return
            _, done = self._results.add(plan.first + number)
            if plan.per_s:
                done.add_done_callback(self._count)
            else:
                done.result()
                self._count(done)

    def _count(self, done: Future[None]) -> None:
        self._posted += done.exception() is None

    def _add_fresh(self) -> None:
        number = 1_000_000_000
        while self.plan.fresh_every_s and not self._over.wait(self.plan.fresh_every_s):
            event_id, done = self._results.add(number)
            number += 1
            done.add_done_callback(partial(self._commit, event_id))
            done.result()

    def _commit(self, event_id: str, _done: Future[None]) -> None:
        """On the store's thread, and so before any acknowledgement of it can be kept."""
        self._committed[event_id] = time.monotonic()

    def _say(self, *, anew: bool = True) -> None:
        """``anew``: count the outbox; else what was counted last."""
        self._stats = stats = self.store.outbox_stats() if anew else self._stats
        word = Word(
            time.monotonic(),
            self._posted,
            stats.waiting,
            asdict(self.sync.counts),
            self.sync.state.phase.value,
            list(self._fresh_ms),
            len(self._committed),
        )
        print(json.dumps(asdict(word)), flush=True)


def main(arguments: list[str]) -> int:
    """The process."""
    give_memory_back()  # as `dermascan run` does
    plan = Plan(**json.loads(arguments[0]))
    arm(plan.kill, plan.nth)
    Device(plan).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
