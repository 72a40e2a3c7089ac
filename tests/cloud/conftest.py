"""A mosquitto of the test's own, a device that speaks to it, and a ledger that is read from outside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.messages.catalogue import FEEDBACK, RESULT, MessageType, topic_of
from agent.messages.envelope import Sender, event_bytes
from agent.messages.examples import EXAMPLES

SENDER = Sender("clinic-a", "clinic-a-room-2", "0.1.0")


def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Wait for a condition, and fail when it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the awaited condition did not come"
        threading.Event().wait(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A mosquitto on a free loopback port; ``lines`` are added to its settings."""

    def __init__(self, folder: Path, *lines: str) -> None:
        found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if found is None:
            pytest.skip("there is no mosquitto here; install it with: apt-get install mosquitto")
        self.binary, self.port = found, free_port()
        self.folder = folder / f"mosquitto-{self.port}"
        self.folder.mkdir()
        self.folder.chmod(0o777)  # started as root, mosquitto works as another user
        common = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.folder}/",
            f"user {'root' if os.geteuid() == 0 else 'mosquitto'}",
            *(() if any(line.startswith("allow_anonymous") for line in lines) else ("allow_anonymous true",)),
        ]
        self.settings = self.folder / "mosquitto.conf"
        self.settings.write_text("\n".join((*common, *lines)) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, "-c", str(self.settings)], stdout=log, stderr=log)
        until(self._listens)
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    started: list[Broker] = []

    def make(*lines: str) -> Broker:
        started.append(Broker(tmp_path, *lines))
        return started[-1].start()

    yield make
    for broker in started:
        broker.kill()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    return make_broker()


class FakeDevice:
    """Publishes what it is told and remembers what was acknowledged to it."""

    def __init__(self, port: int, sender: Sender = SENDER) -> None:
        self.sender, self.acked, self.acks = sender, [], []
        self._there = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, sender.device_id, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe(self.topic("ack"), qos=1)
        self.client.on_subscribe = lambda *_: self._there.set()
        self.client.on_message = lambda _client, _data, message: self._heard(message.payload)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self.client.loop_start()
        assert self._there.wait(10)

    def topic(self, name: str) -> str:
        return topic_of(self.sender.clinic_id, self.sender.device_id, name)

    def send(self, payload: bytes, topic: str = "results", *, retain: bool = False) -> None:
        sent = self.client.publish(self.topic(topic), payload, qos=1, retain=retain)
        sent.wait_for_publish(10)

    def _heard(self, payload: bytes) -> None:
        ids = json.loads(payload)["data"]["ids"]
        self.acks.append(ids)
        self.acked += ids

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def make_device() -> Iterator[Callable[..., FakeDevice]]:
    made: list[FakeDevice] = []

    def make(port: int, sender: Sender = SENDER) -> FakeDevice:
        made.append(FakeDevice(port, sender))
        return made[-1]

    yield make
    for device in made:
        device.stop()


def event(
    number: int | None, *, message: MessageType = RESULT, sender: Sender = SENDER, event_id: str | None = None
) -> bytes:
    """An event of a message's example, with a number and an id of its own."""
    data = dict(EXAMPLES[message][0].event["data"])
    if message is RESULT:
        data |= {"clinic_id": sender.clinic_id, "device_id": sender.device_id}
    return event_bytes(
        sender,
        message,
        event_id=event_id or f"{sender.device_id}-{message.topic}-{number}",
        subject="scan-1" if message in {RESULT, FEEDBACK} else sender.device_id,
        seq=number,
        time="2026-11-23T09:30:00.000Z",
        data=data,
    )


def rows(ledger: Path, sql: str) -> list[tuple[object, ...]]:
    """Rows of the ledger's file, read beside its owner."""
    database = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()
