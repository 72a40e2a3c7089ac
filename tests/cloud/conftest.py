"""A mosquitto of the test's own, a device that speaks to it, and a ledger that is read from outside."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.messages.catalogue import FEEDBACK, RESULT, MessageType, topic_of
from agent.messages.envelope import Sender, event_bytes
from agent.messages.examples import EXAMPLES
from tests.fakes.broker import Broker
from tests.fakes.certificates import CertificateAuthority

SENDER = Sender("clinic-a", "clinic-a-room-2", "0.1.0")


def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Wait for a condition, and fail when it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the awaited condition did not come"
        threading.Event().wait(0.01)


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Start a mosquitto: ``make_broker(ca, {setting: value})``."""
    made: list[Broker] = []

    def make(ca: CertificateAuthority | None = None, settings: Mapping[str, str] | None = None) -> Broker:
        # Saving after every change is for those who kill a broker in mid-stream, and slow.
        quick = {"autosave_on_changes": "false", "autosave_interval": "1800"}
        made.append(Broker(tmp_path / f"mosquitto-{len(made)}", ca, quick | dict(settings or {})))
        return made[-1].start()

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    return make_broker()


class FakeDevice:
    """Publishes what it is told and remembers what was acknowledged to it."""

    def __init__(self, port: int, sender: Sender = SENDER) -> None:
        self.sender, self.acked, self.acks = sender, [], []
        self.last_ack = b""
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
        self.last_ack = payload
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
