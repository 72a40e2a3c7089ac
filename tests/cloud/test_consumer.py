"""The consumer against a real mosquitto: once each, acknowledged after the commit, whatever came."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.messages.catalogue import ALERT, FEEDBACK, RESULT, STATUS, TELEMETRY, topic_of
from agent.messages.envelope import Sender
from cloud import consumer as consumer_module
from cloud.consumer import Consumer
from cloud.ledger import Ledger
from cloud.mqtt import BrokerSettings
from cloud.report import report
from tests.cloud.conftest import SENDER, event, rows, until
from tests.fakes.certificates import CertificateAuthority


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def make_consumer(path: Path) -> Iterator[Callable[..., Consumer]]:
    made: list[tuple[Consumer, Ledger]] = []

    def make(port: int, client_id: str = "dermascan-cloud", room: int | None = None) -> Consumer:
        ledger = Ledger(path)
        consumer = Consumer(ledger, BrokerSettings("127.0.0.1", port, client_id=client_id))
        if room is not None:
            consumer.link.arrivals = queue.Queue(maxsize=room)
        made.append((consumer, ledger))
        consumer.start()
        until(consumer.link.subscribed.is_set)
        return consumer

    yield make
    for consumer, ledger in made:
        consumer.stop()
        ledger.close()


def test_every_kind_is_kept_and_acknowledged(broker, make_consumer, make_device, path):
    make_consumer(broker.port)
    device = make_device(broker.port)
    for message in (RESULT, FEEDBACK, ALERT, TELEMETRY):
        device.send(event(1 if message is not TELEMETRY else 2, message=message), message.topic)
    until(lambda: len(device.acked) == 4)
    kept = rows(path, "SELECT type, topic, sequence FROM events ORDER BY type")
    assert kept == [
        (ALERT.type, "telemetry", 1),
        (FEEDBACK.type, "feedback", 1),
        (RESULT.type, "results", 1),
        (TELEMETRY.type, "telemetry", 2),
    ]
    (stored,) = rows(path, "SELECT event FROM events WHERE topic = 'results'")
    assert stored[0] == event(1).decode(), "the bytes are kept as they came"


@pytest.mark.fault("F19")
def test_a_repeat_is_kept_once_and_acknowledged_each_time(broker, make_consumer, make_device, path):
    consumer = make_consumer(broker.port)
    device = make_device(broker.port)
    for _ in range(3):
        device.send(event(1))
    until(lambda: len(device.acked) == 3)  # the first acknowledgement may have been lost
    assert rows(path, "SELECT count(*) FROM events") == [(1,)]
    assert (consumer.counters.new, consumer.counters.duplicates) == (1, 2)


def test_two_devices_may_use_the_same_id(broker, make_consumer, make_device, path):
    make_consumer(broker.port)
    other = Sender("clinic-b", "room-9", "0.1.0")
    devices = [make_device(broker.port), make_device(broker.port, other)]
    for device in devices:
        device.send(event(1, sender=device.sender, event_id="the-same"))
    until(lambda: all(device.acked == ["the-same"] for device in devices))
    assert rows(path, "SELECT count(*) FROM events") == [(2,)]


def test_gaps_are_shown_and_closed(broker, make_consumer, make_device, path):
    make_consumer(broker.port)
    device = make_device(broker.port)
    for number in (5, 1, 2, 9):
        device.send(event(number))
    until(lambda: len(device.acked) == 4)
    (stream,) = report(path)[0].streams
    assert (stream.gaps, stream.missing, stream.highest) == (((3, 4), (6, 8)), 5, 9)
    for number in (3, 4, 6, 7, 8):
        device.send(event(number))
    until(lambda: len(device.acked) == 9)
    (stream,) = report(path)[0].streams
    assert (stream.gaps, stream.missing, stream.highest) == ((), 0, 9)


@pytest.mark.fault("F21")
def test_what_cannot_be_read_is_kept_aside_and_holds_up_nothing(broker, make_consumer, make_device, path):
    consumer = make_consumer(broker.port)
    device = make_device(broker.port)
    newer = event(2, event_id="newer").replace(b'"org.dermascan.result.v1"', b'"org.dermascan.result.v9"')
    bad = [b"", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"id":"x","specversion":"1.0"}', newer, b'{"id": 1}']
    foreign = event(7, sender=Sender("clinic-b", "room-9", "0.1.0"), event_id="foreign")
    long_number = event(8, event_id="long").replace(b'"0000000000000008"', b'"' + b"9" * 5000 + b'"')
    half = event(9, event_id="half").replace(b'"half"', b'"ha\\ud800lf"')
    for payload in (*bad, foreign, long_number, half):
        device.send(payload)
    device.send(event(1))
    until(lambda: SENDER.device_id + "-results-1" in device.acked)
    until(lambda: consumer.counters.malformed == 10)
    reasons = dict(rows(path, "SELECT coalesce(event_id, ''), reason FROM malformed"))
    assert "org.dermascan.result.v9" in reasons["newer"]
    assert "came on a topic of /dermascan/clinic-a/clinic-a-room-2" in reasons["foreign"]
    assert rows(path, "SELECT count(*) FROM events") == [(1,)]
    # What is kept and has an id is not sent again for ever.
    until(lambda: {"newer", "foreign", "x"} <= set(device.acked))
    (stream,) = report(path)[0].streams
    assert stream.malformed == 10


def test_what_was_kept_aside_is_read_again_at_the_next_start(broker, make_consumer, make_device, path):
    ledger = Ledger(path)
    ledger.close()
    with sqlite3.connect(path) as database:
        database.execute(
            "INSERT INTO malformed (clinic_id, device_id, topic, sha256, event_id, reason, payload, heard_at)"
            " VALUES (?, ?, 'results', 'x', 'e', 'this version does not know it', ?, '')",
            (SENDER.clinic_id, SENDER.device_id, event(1)),
        )
    database.close()
    make_consumer(broker.port)
    assert rows(path, "SELECT sequence FROM events") == [(1,)]
    assert rows(path, "SELECT count(*) FROM malformed") == [(0,)]


def test_status_is_known_and_not_numbered(broker, make_consumer, make_device, path):
    device = make_device(broker.port)
    device.send(event(None, message=STATUS, event_id="birth"), "status", retain=True)
    make_consumer(broker.port)  # after the birth: it is retained
    until(lambda: rows(path, "SELECT state FROM devices") == [("online",)])
    lost = event(None, message=STATUS, event_id="birth").replace(b'"online"', b'"lost"')
    device.send(lost, "status", retain=True)
    until(lambda: rows(path, "SELECT state FROM devices") == [("lost",)])
    assert rows(path, "SELECT count(*) FROM events") == [(0,)]
    assert report(path)[0].state == "lost"


@pytest.mark.fault("F18")
def test_events_sent_while_it_is_away_are_heard_when_it_is_back(broker, make_consumer, make_device, path):
    first = make_consumer(broker.port)
    first.stop()
    device = make_device(broker.port)
    for number in range(1, 101):
        device.send(event(number))
    assert not device.acked
    make_consumer(broker.port)
    until(lambda: len(set(device.acked)) == 100)
    assert report(path)[0].streams[0].missing == 0


def test_more_than_it_has_room_for_waits_and_is_not_lost(broker, make_consumer, make_device, path, monkeypatch):
    make_consumer(broker.port).stop()
    device = make_device(broker.port)
    for number in range(1, 501):
        device.client.publish(device.topic("results"), event(number), qos=1)
    until(lambda: not device.client.want_write())
    monkeypatch.setattr(consumer_module, "MAX_BATCH", 3)
    consumer = make_consumer(broker.port, room=2)
    until(lambda: len(set(device.acked)) == 500)
    assert consumer.link.dropped == 0
    assert report(path)[0].streams[0].missing == 0


@pytest.mark.fault("F18")
def test_a_killed_broker_is_found_again(make_broker, make_consumer, make_device, path):
    broker = make_broker()
    consumer = make_consumer(broker.port)
    device = make_device(broker.port)
    device.send(event(1))
    until(lambda: len(device.acked) == 1)
    broker.kill()
    until(lambda: not consumer.link.subscribed.is_set())
    assert consumer.link.trouble
    broker.start()
    until(consumer.link.subscribed.is_set)
    until(device.client.is_connected)
    device.send(event(2))
    until(lambda: SENDER.device_id + "-results-2" in device.acked)


@pytest.mark.fault("F18")
def test_nothing_is_acknowledged_that_is_not_committed(broker, make_consumer, make_device, path):
    """Whoever holds the ledger's file locked stands for a disk that is full."""
    consumer = make_consumer(broker.port)
    device = make_device(broker.port)
    consumer._ledger._db.execute("PRAGMA busy_timeout = 50")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    device.send(event(1))
    until(lambda: consumer.counters.failed_commits >= 1)
    assert not device.acked
    assert rows(path, "SELECT count(*) FROM events") == [(0,)]
    holder.execute("ROLLBACK")
    holder.close()
    until(lambda: len(device.acked) == 1)
    assert rows(path, "SELECT count(*) FROM events") == [(1,)]


def test_one_that_cannot_be_stored_holds_up_none_of_its_batch(broker, make_consumer, make_device, path, monkeypatch):
    insert = Ledger._insert

    def choosy(self, heard, now):
        if heard.event.id.endswith("-2"):
            raise OverflowError("too much for a column")
        return insert(self, heard, now)

    monkeypatch.setattr(Ledger, "_insert", choosy)
    consumer = make_consumer(broker.port)
    device = make_device(broker.port)
    for number in range(1, 6):
        device.client.publish(device.topic("results"), event(number), qos=1)
    until(lambda: len(device.acked) == 4)
    assert rows(path, "SELECT sequence FROM events ORDER BY sequence") == [(1,), (3,), (4,), (5,)]
    until(lambda: consumer.counters.malformed == 1)
    assert rows(path, "SELECT reason FROM malformed") == [("it cannot be stored",)]


def test_two_consumers_share_the_events(broker, make_consumer, make_device, path):
    consumers = [make_consumer(broker.port, "cloud-1"), make_consumer(broker.port, "cloud-2")]
    device = make_device(broker.port)
    for number in range(1, 201):
        device.client.publish(device.topic("results"), event(number), qos=1)
    until(lambda: len(device.acked) == 200)
    assert all(consumer.counters.new > 0 for consumer in consumers)
    assert sum(consumer.counters.new for consumer in consumers) == 200
    assert report(path)[0].streams[0].missing == 0


def test_acknowledgements_come_in_batches(broker, make_consumer, make_device, path):
    make_consumer(broker.port)
    device = make_device(broker.port)
    for number in range(1, 1001):
        device.client.publish(device.topic("results"), event(number), qos=1)
    until(lambda: len(device.acked) == 1000)
    assert sorted(device.acked) == sorted(f"{SENDER.device_id}-results-{number}" for number in range(1, 1001))
    assert len(device.acks) < 200
    assert max(len(ids) for ids in device.acks) <= 500


def test_a_broker_that_refuses_is_named(make_broker, path):
    broker = make_broker(None, {"allow_anonymous": "false"})
    ledger = Ledger(path)
    consumer = Consumer(ledger, BrokerSettings("127.0.0.1", broker.port))
    consumer.start()
    try:
        until(lambda: consumer.link.trouble is not None)
        assert consumer.link.trouble == "the broker refused: Not authorized"
        assert not consumer.state["connected"]
    finally:
        consumer.stop()
        ledger.close()


def test_mutual_tls_and_access_by_certificate(make_broker, path, tmp_path):
    """The access rules that devices are tested with let the cloud's shared subscriptions through."""
    ca = CertificateAuthority(tmp_path / "ca")
    broker = make_broker(ca)
    cloud, device = ca.device("cloud"), ca.device(SENDER.device_id)
    ledger = Ledger(path)
    consumer = Consumer(ledger, BrokerSettings("127.0.0.1", broker.port, ca.cert, cloud.cert, cloud.key))
    consumer.start()
    acked = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set(str(ca.cert), str(device.cert), str(device.key))
    client.on_connect = lambda client, *_: client.subscribe(topic_of("clinic-a", SENDER.device_id, "ack"), qos=1)
    client.on_subscribe = lambda client, *_: client.publish(
        topic_of("clinic-a", SENDER.device_id, "results"), event(1), qos=1
    )
    client.on_message = lambda *_: acked.set()
    try:
        until(consumer.link.subscribed.is_set)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        assert acked.wait(10)
        assert rows(path, "SELECT count(*) FROM events") == [(1,)]
    finally:
        client.disconnect()
        client.loop_stop()
        consumer.stop()
        ledger.close()
