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
from benchmarks.sync_device import Results, open_store
from benchmarks.sync_scene import FORGETFUL, DeviceProcess, Memory, Scene, until
from tests.fakes.certificates import Issued

QUEUE = FORGETFUL | {"max_queued_messages": "0"}
"""As docs/cloud.md advises."""


@dataclass(frozen=True)
class Bare:
    """What paho alone does."""

    events: int
    to_puback_per_s: float
    to_ledger_per_s: float


@dataclass(frozen=True)
class Drain:
    """What the publisher does, and the bare loops before and after it."""

    rows: int
    row_bytes: int
    seconds: float
    """Until the outbox had kept the cloud's word on the last row."""
    taken_per_s: float
    """By the broker's PUBACK, as the bare loop is measured."""
    settled_per_s: float
    """By the cloud's word, kept in the outbox."""
    bare: tuple[Bare, Bare]
    fresh_ms: tuple[float, ...]
    memory: str
    books: str

    @property
    def bare_per_s(self) -> float:
        """Mean of the two bare loops, to the PUBACK."""
        return sum(one.to_puback_per_s for one in self.bare) / 2

    @property
    def bare_to_ledger_per_s(self) -> float:
        """Mean of the two bare loops, to the commit in the cloud."""
        return sum(one.to_ledger_per_s for one in self.bare) / 2

    def fresh(self) -> tuple[float, float, float]:
        """p50, p99 and the longest way of a fresh result, in ms."""
        p50, p99 = (float(value) for value in np.percentile(self.fresh_ms, [50, 99]))
        return p50, p99, max(self.fresh_ms)


def bare_loop(scene: Scene, files: Issued, payloads: list[bytes], window: int) -> float:
    """Publish with paho's own thread and a window, as its examples do; returns events a second to the last PUBACK."""
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
    started = time.monotonic()
    for payload in payloads:
        room.acquire()
        info = client.publish("dermascan/v1/clinic-1/bare/results", payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise RuntimeError(f"the bare loop's connection is gone ({info.rc})")
    for _ in range(window):
        room.acquire()
    took = time.monotonic() - started
    client.disconnect()
    client.loop_stop()
    return len(payloads) / took


def _in_ledger(ledger: Path, device_id: str) -> int:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        sql = "SELECT coalesce(sum(heard + duplicates), 0) FROM streams WHERE device_id = ?"
        return int(database.execute(sql, (device_id,)).fetchone()[0])


def _bare(scene: Scene, files: Issued, sample: bytes, count: int) -> Bare:
    """Events like the device's own, each with an id of its own, which the cloud commits as it does the device's."""
    own = json.loads(sample)
    data, sender = own["data"] | {"device_id": "bare"}, Sender("clinic-1", "bare", "9.9")
    payloads = [
        event_bytes(
            *(sender, RESULT), event_id=str(uuid.uuid4()), subject=own["subject"], seq=None, time=own["time"], data=data
        )
        for _ in range(count)
    ]
    before = _in_ledger(scene.ledger, "bare")
    started = time.monotonic()
    rate = bare_loop(scene, files, payloads, SyncLimits().window)
    until(lambda: _in_ledger(scene.ledger, "bare") >= before + count, 60 + count / 50, "the bare loop's events in the ledger")
    return Bare(count, rate, count / (time.monotonic() - started))


def measure(folder: Path, rows: int, bare_events: int) -> Drain:
    """Make a backlog, let it go, and publish bare before and after."""
    with Scene(folder, QUEUE) as scene:
        print(f"making a backlog of {rows} results ...", file=sys.stderr)
        state = scene.folder / "state"
        with open_store(state, "device-1") as store:
            started = time.monotonic()
            Results(store, "device-1", "clinic-1").add_many(range(rows))
            print(f"  {rows / (time.monotonic() - started):.0f} a second", file=sys.stderr)
            (first,) = store.outbox_due(1, fresh_after_seq=0)
        files = scene.ca.device("bare")
        with scene.cloud() as cloud:
            until(lambda: cloud.lines, 30, "the cloud's start")
            print("publishing bare ...", file=sys.stderr)
            before = _bare(scene, files, first.event, bare_events)
            print(f"  {before}\ndraining ...", file=sys.stderr)
            plan = scene.plan(fresh_every_s=1.0, say_every_s=0.2)
            with DeviceProcess(plan) as device, Memory.of(device.process.pid) as memory:
                device.wait_for(lambda word: word.counts["sent"] > 0, 60, "the first event")
                first_at = next(word.at for word in device.words if word.counts["sent"] > 0) - 0.2
                device.wait_for(lambda word: word.counts["taken"] >= rows, 3600, "the broker has everything")
                taken_at = next(word.at for word in device.words if word.counts["taken"] >= rows)
                device.wait_for(lambda word: word.waiting <= word.fresh_open + 1, 3600, "the outbox is empty")
                settled_at = next(word.at for word in device.words if word.counts["acknowledged"] >= rows)
                device.stop()
                fresh = device.words[-1].fresh_ms
            print(f"  {rows / (settled_at - first_at):.0f} a second\npublishing bare again ...", file=sys.stderr)
            after = _bare(scene, files, first.event, bare_events)
        books = scene.books()
    return Drain(
        rows,
        len(first.event),
        settled_at - first_at,
        rows / (taken_at - first_at),
        rows / (settled_at - first_at),
        (before, after),
        tuple(fresh),
        memory.said(),
        str(books),
    )


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(dir=sys.argv[3] if len(sys.argv)>3 else None) as name:
        one = measure(Path(name), int(sys.argv[1]), int(sys.argv[2]))
        print({k: v for k, v in vars(one).items() if k != "fresh_ms"}, one.fresh(), one.taken_per_s / one.bare_per_s)
