"""How fast a backlog leaves, beside a bare paho loop with the same window over the same TLS in the same run."""

from __future__ import annotations

import json
import sqlite3
import ssl
import sys
import threading
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from agent.messages.catalogue import RESULT
from agent.messages.envelope import Sender, event_bytes
from agent.sync.limits import SyncLimits
from benchmarks.sync.device import Results, open_store
from benchmarks.sync.scene import FORGETFUL, Books, DeviceProcess, Memory, Scene, until
from tests.fakes.certificates import Issued

QUEUE = FORGETFUL | {"max_queued_messages": "0"}
"""As docs/cloud.md advises."""


@dataclass(frozen=True)
class Bare:
    """What paho alone does."""

    events: int
    to_puback_per_s: float
    cpu_us: float
    """Processor time of the process for each event."""
    to_ledger_per_s: float | None
    """None with the quick cloud."""


@dataclass(frozen=True)
class Drain:
    """What the publisher does, and the bare loops before and after it."""

    rows: int
    row_bytes: int
    taken_per_s: float
    """By the broker's PUBACK, as the bare loop is measured."""
    settled_per_s: float
    """By the cloud's word, kept in the outbox."""
    cpu_us: float
    """Processor time of the device's process for each row."""
    bare: tuple[Bare, Bare]
    fresh_ms: tuple[float, ...]
    memory: str
    books: Books | None
    """None with the quick cloud, which keeps nothing."""

    @property
    def bare_per_s(self) -> float:
        """Mean of the two bare loops, to the PUBACK."""
        return sum(one.to_puback_per_s for one in self.bare) / 2

    @property
    def bare_cpu_us(self) -> float:
        """Mean of the two bare loops."""
        return sum(one.cpu_us for one in self.bare) / 2

    @property
    def bare_to_ledger_per_s(self) -> float:
        """Mean of the two bare loops, to the commit in the cloud; 0 with the quick cloud."""
        return sum(one.to_ledger_per_s or 0.0 for one in self.bare) / 2

    def fresh(self) -> tuple[float, float, float]:
        """p50, p99 and the longest way of a fresh result, in ms."""
        p50, p99 = (float(value) for value in np.percentile(self.fresh_ms, [50, 99]))
        return p50, p99, max(self.fresh_ms)


def bare_loop(scene: Scene, files: Issued, payloads: list[bytes], window: int) -> tuple[float, float]:
    """Publish with paho's own thread and a window, as its examples do.

    Returns events a second to the last PUBACK, and the processor time of each in µs.
    """
    client = Client(CallbackAPIVersion.VERSION2, "bare", protocol=MQTTProtocolVersion.MQTTv5)
    context = ssl.create_default_context(cafile=str(scene.ca.cert))
    context.load_cert_chain(files.cert, files.key)
    client.tls_set_context(context)
    client.max_inflight_messages_set(window)
    room, connected = threading.Semaphore(window), threading.Event()
    client.on_connect = lambda *_: connected.set()

    def landed(_client: Any, _data: Any, _number: int, reason: Any, _properties: Any) -> None:
        if reason.value:
            raise RuntimeError(f"the broker did not take an event of the bare loop: {reason}")
        room.release()

    client.on_publish = landed
    client.connect(scene.broker.host, scene.broker.port)
    client.loop_start()
    if not connected.wait(10.0):
        raise TimeoutError("the bare loop did not come to connect")
    started, used = time.monotonic(), time.process_time()
    for payload in payloads:
        room.acquire()
        info = client.publish("dermascan/v1/clinic-1/bare/results", payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise RuntimeError(f"the bare loop's connection is gone ({info.rc})")
    for _ in range(window):
        room.acquire()
    took, used = time.monotonic() - started, time.process_time() - used
    client.disconnect()
    client.loop_stop()
    return len(payloads) / took, used / len(payloads) * 1e6


def _in_ledger(ledger: Path, device_id: str) -> int:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        sql = "SELECT coalesce(sum(heard + duplicates), 0) FROM streams WHERE device_id = ?"
        return int(database.execute(sql, (device_id,)).fetchone()[0])


def _bare(scene: Scene, files: Issued, sample: bytes, count: int, *, kept: bool) -> Bare:
    """Events like the device's own, each with an id of its own, which the cloud takes as it does the device's."""
    own = json.loads(sample)
    data, sender = own["data"] | {"device_id": "bare"}, Sender("clinic-1", "bare", "9.9")
    about = {"subject": own["subject"], "seq": None, "time": own["time"], "data": data}
    payloads = [event_bytes(sender, RESULT, event_id=str(uuid.uuid4()), **about) for _ in range(count)]
    before = _in_ledger(scene.ledger, "bare") if kept else 0
    started = time.monotonic()
    rate, cpu_us = bare_loop(scene, files, payloads, SyncLimits().window)
    if not kept:
        return Bare(count, rate, cpu_us, None)
    limit_s = 60.0 + count / 100
    until(lambda: _in_ledger(scene.ledger, "bare") >= before + count, limit_s, "the bare loop's events in the ledger")
    return Bare(count, rate, cpu_us, count / (time.monotonic() - started))


def make_backlog(state_dir: Path, rows: int) -> bytes:
    """Results in an outbox; returns one event's bytes."""
    print(f"making a backlog of {rows} results ...", file=sys.stderr)
    with open_store(state_dir, "device-1") as store:
        Results(store, "device-1", "clinic-1").add_many(range(rows))
        (first,) = store.outbox_due(1, fresh_after_seq=0)
    return first.event


def measure(
    folder: Path, rows: int, bare_events: int, *, quick: bool, fresh_every_s: float = 1.0, **mqtt: Any
) -> Drain:
    """Make a backlog, let it go, and publish bare before and after.

    Args:
        folder: for everything.
        rows: of the backlog.
        bare_events: of each bare loop.
        quick: the other side is `benchmarks.sync.quick_cloud`, not the reference cloud.
        fresh_every_s: seconds between two fresh results.
        mqtt: what is to differ in ``[mqtt]``.
    """
    with Scene(folder, QUEUE) as scene:
        sample = make_backlog(scene.folder / "state", rows)
        files = scene.ca.device("bare")
        with scene.quick_cloud() if quick else scene.cloud() as cloud:
            until(lambda: cloud.lines, 30, "the cloud's start")
            before = _bare(scene, files, sample, bare_events, kept=not quick)
            print(f"{before}\ndraining ...", file=sys.stderr)
            plan = scene.plan(mqtt=scene.mqtt(**mqtt), fresh_every_s=fresh_every_s, say_every_s=0.1, count_every=10)
            with DeviceProcess(plan) as device, Memory.of(device.process.pid) as memory:
                device.wait_for(lambda word: word.counts["acknowledged"] >= rows, 3600, "the backlog is empty")
                device.wait_for(lambda word: word.waiting <= 1, 60, "the outbox is empty")
                used = sum(memory.process.cpu_times()[:2])
                device.stop()
                words = device.words
            after = _bare(scene, files, sample, bare_events, kept=not quick)
        books = None if quick else scene.books()
    begin = max(word.at for word in words if word.counts["sent"] == 0)
    took = {
        name: min(word.at for word in words if word.counts[name] >= rows) - begin for name in ("taken", "acknowledged")
    }
    return Drain(
        rows=rows,
        row_bytes=len(sample),
        taken_per_s=rows / took["taken"],
        settled_per_s=rows / took["acknowledged"],
        cpu_us=used / rows * 1e6,
        bare=(before, after),
        fresh_ms=tuple(words[-1].fresh_ms),
        memory=memory.said(),
        books=books,
    )


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        one = measure(
            Path(name), int(sys.argv[1]), int(sys.argv[2]), quick=sys.argv[3] == "quick", delivery=sys.argv[4]
        )
        print({k: v for k, v in vars(one).items() if k != "fresh_ms"}, one.fresh(), one.settled_per_s / one.bare_per_s)
