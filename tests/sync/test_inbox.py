"""What comes down: kept, answered, and never a crash; with the real store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.messages.catalogue import COMMAND, GROUND_TRUTH, TELEMETRY
from agent.records.store import Store
from agent.sync.inbox import REPLIES_A_MINUTE, Inbox
from agent.sync.publisher import Publisher
from agent.sync.state import Phase
from tests.fakes.broker import Broker
from tests.sync.parts import QUICK, SENDER, FakeOutbox, FakeRecords, SmallCloud, publisher, settings, wait_for

Make = Callable[..., Any]
TRUTH = {"scan_id": "scan-1", "diagnosis": "melanoma", "source": "histopathology"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state", "device-1", 256, clinic_id="clinic-1", software_version="9.9") as opened:
        yield opened


@pytest.fixture
def stand(broker: Broker, store: Store, make_cloud: Make) -> Iterator[tuple[SmallCloud, Publisher, Store]]:
    """A cloud and a device, connected."""
    cloud: SmallCloud = make_cloud(broker.port)
    sync = publisher(store, settings(broker.port), store)
    sync.start()
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)
    yield cloud, sync, store
    sync.stop()


def replies(cloud: SmallCloud) -> list[dict[str, Any]]:
    return [event["data"] for _, event in list(cloud.heard) if event["type"] == "org.dermascan.command-reply.v1"]


def test_histopathology_is_kept_and_an_unknown_scan_answered(stand: tuple[SmallCloud, Publisher, Store]) -> None:
    cloud, _, store = stand
    event_id = cloud.say(GROUND_TRUTH, TRUTH)
    wait_for(lambda: replies(cloud))
    (reply,) = replies(cloud)
    assert (reply["command_id"], reply["command"], reply["outcome"]) == (event_id, "ground-truth", "recorded")
    assert reply["details"] == {"scan_id": "scan-1"}
    (row,) = store.ground_truth_of("scan-1")
    assert row.diagnosis == "melanoma"


@pytest.mark.parametrize(
    ("data", "outcome", "also"),
    [
        ({"command": "sync-now"}, "done", None),
        ({"command": "send-report"}, "done", "org.dermascan.telemetry.v1"),
        ({"command": "model-available", "model": "derma/2.0.0"}, "recorded", None),
        ({"command": "recalibrate", "dermoscope_id": "scope-1"}, "recorded", "org.dermascan.alert.v1"),
        ({"command": "recalibrate"}, "recorded", "org.dermascan.alert.v1"),
        ({"command": "recalibrate", "dermoscope_id": "../etc"}, "refused", None),
    ],
)
def test_each_command_is_answered(
    stand: tuple[SmallCloud, Publisher, Store], data: dict[str, Any], outcome: str, also: str | None
) -> None:
    cloud, _, store = stand
    event_id = cloud.say(COMMAND, data)
    wait_for(lambda: replies(cloud))
    (reply,) = replies(cloud)
    assert (reply["command_id"], reply["command"], reply["outcome"]) == (event_id, data["command"], outcome)
    if also is not None:  # what is not a reply may come after it
        wait_for(lambda: also in [event["type"] for _, event in cloud.heard])
    wait_for(lambda: store.outbox_stats().waiting == 0)


@pytest.mark.fault("F19")
def test_a_command_that_comes_twice_is_obeyed_once(stand: tuple[SmallCloud, Publisher, Store]) -> None:
    cloud, _, _ = stand
    event_id = cloud.say(COMMAND, {"command": "send-report"}, event_id="once")
    cloud.say(COMMAND, {"command": "send-report"}, event_id="once")
    last = cloud.say(COMMAND, {"command": "sync-now"})
    wait_for(lambda: last in [reply["command_id"] for reply in replies(cloud)])
    assert [reply["command_id"] for reply in replies(cloud)] == [event_id, last]
    # Replies are sent before telemetry, so the one report may come after them.
    wait_for(lambda: "org.dermascan.telemetry.v1" in [event["type"] for _, event in cloud.heard])
    assert [event["type"] for _, event in cloud.heard].count("org.dermascan.telemetry.v1") == 1


@pytest.mark.parametrize(
    ("topic", "payload", "word"),
    [
        ("command", b"", "no JSON"),
        ("command", b"\xff\xfe\x00", "no JSON"),
        ("command", b"[" * 100_000, "no JSON"),
        ("command", b"x" * 200_000, "at most"),
        ("command", b'{"id": "c1"}', "specversion"),
        ("ground-truth", b"{}", "id is missing"),
        (
            "command",
            json.dumps({"id": "c1", "specversion": "1.0", "type": COMMAND.type, "data": {"command": "rm"}}).encode(),
            "data.command",
        ),
        (
            "command",
            json.dumps({"id": "c1", "specversion": "1.0", "type": GROUND_TRUTH.type, "data": TRUTH}).encode(),
            "type is",
        ),
    ],
)
def test_what_is_malformed_is_answered_and_nothing_stops(
    stand: tuple[SmallCloud, Publisher, Store], topic: str, payload: bytes, word: str
) -> None:
    cloud, sync, _ = stand
    cloud.say_bytes(topic, payload)
    wait_for(lambda: replies(cloud))
    (reply,) = replies(cloud)
    assert reply["outcome"] == "malformed"
    assert word in reply["sentence"]
    next_one = cloud.say(COMMAND, {"command": "sync-now"})
    wait_for(lambda: next_one in [one["command_id"] for one in replies(cloud)])
    assert sync.counts.connections == 1


def test_malformed_acknowledgements_are_passed_over(stand: tuple[SmallCloud, Publisher, Store]) -> None:
    cloud, sync, _ = stand
    cloud.say_bytes("ack", b"rubbish")
    cloud.say_bytes("ack", json.dumps({"id": "a", "specversion": "1.0", "type": "x", "data": {}}).encode())
    wait_for(lambda: sync.counts.malformed == 2)
    command = cloud.say(COMMAND, {"command": "sync-now"})
    wait_for(lambda: command in [one["command_id"] for one in replies(cloud)])
    assert sync.counts.connections == 1


def test_a_cloud_gone_wrong_does_not_fill_the_outbox() -> None:
    records, now = FakeRecords(), [0.0]
    inbox = Inbox(records, SENDER, dict, lambda: now[0])
    for _ in range(1000):
        inbox.take("command", b"rubbish", lambda: None)
    assert len(records.posted) == REPLIES_A_MINUTE
    assert inbox.malformed == 1000
    now[0] = 61.0
    inbox.take("command", b"rubbish", lambda: None)
    assert len(records.posted) == REPLIES_A_MINUTE + 1


def test_what_came_while_the_device_was_away_is_there_when_it_is_back(
    broker: Broker, make_cloud: Make, make_publisher: Make
) -> None:
    records = FakeRecords()
    cloud: SmallCloud = make_cloud(broker.port)
    first: Publisher = make_publisher(FakeOutbox(), settings(broker.port), records)
    wait_for(lambda: first.state.phase is Phase.CONNECTED)
    first.stop()
    ids = [cloud.say(COMMAND, {"command": "recalibrate"}) for _ in range(50)]
    truth = cloud.say(GROUND_TRUTH, TRUTH)
    wait_for(lambda: cloud.states() == ["online", "offline"])
    make_publisher(FakeOutbox(), settings(broker.port), records)
    wait_for(lambda: len(records.commands) == 50 and len(records.ground_truths) == 1)
    assert [event.id for event in records.commands] == ids
    assert records.ground_truths[0].id == truth


def test_the_broker_keeps_what_the_store_could_not(
    broker: Broker, make_cloud: Make, make_publisher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sync.downlink.STORE_PAUSE_S", 60.0)
    records = FakeRecords()
    cloud: SmallCloud = make_cloud(broker.port)
    first: Publisher = make_publisher(FakeOutbox(), settings(broker.port), records)
    wait_for(lambda: first.state.phase is Phase.CONNECTED)
    records.fails = [sqlite3.OperationalError("database or disk is full")]
    event_id = cloud.say(COMMAND, {"command": "recalibrate"})
    wait_for(lambda: first.counts.heard == 1 and not records.fails)
    assert records.commands == []
    first.stop()
    make_publisher(FakeOutbox(), settings(broker.port), records)
    wait_for(lambda: [event.id for event in records.commands] == [event_id])


def test_what_the_store_could_not_keep_is_tried_again(
    broker: Broker, make_cloud: Make, make_publisher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sync.downlink.STORE_PAUSE_S", 0.1)
    records = FakeRecords()
    records.fails = [sqlite3.OperationalError("full")] * 2
    cloud: SmallCloud = make_cloud(broker.port)
    sync: Publisher = make_publisher(FakeOutbox(), settings(broker.port), records)
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)
    event_id = cloud.say(COMMAND, {"command": "recalibrate"})
    wait_for(lambda: [event.id for event in records.commands] == [event_id])
    assert sync.counts.connections == 1


def test_a_message_that_breaks_us_does_not_come_for_ever(
    broker: Broker, make_cloud: Make, make_publisher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_once(*_: Any) -> None:
        monkeypatch.undo()
        raise RuntimeError("a fault of ours")

    records = FakeRecords()
    cloud: SmallCloud = make_cloud(broker.port)
    sync: Publisher = make_publisher(FakeOutbox(), settings(broker.port), records)
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)
    monkeypatch.setattr(Inbox, "_command", break_once)
    cloud.say(COMMAND, {"command": "recalibrate"})
    second = cloud.say(COMMAND, {"command": "recalibrate"})
    wait_for(lambda: [event.id for event in records.commands] == [second])
    assert sync.counts.connections == 1


@pytest.mark.fault("F18")
def test_the_real_outbox_empties_and_a_new_process_begins_where_the_old_one_was(
    broker: Broker, tmp_path: Path, make_cloud: Make
) -> None:
    state_dir = tmp_path / "state"
    cloud: SmallCloud = make_cloud(broker.port, acknowledges=False)

    def run(condition: Callable[[Store], bool]) -> None:
        with Store.open(state_dir, "device-1", 256, clinic_id="clinic-1", software_version="9.9") as store:
            for number in range(20):
                store.post(TELEMETRY, "device-1", {"report": "periodic", "figures": {"number": number}}).result(5)
            sync = publisher(store, settings(broker.port), store, limits=replace(QUICK, acknowledge_s=60.0))
            sync.start()
            wait_for(lambda: condition(store))
            sync.stop()

    run(lambda _: len(cloud.ids("telemetry")) == 20)
    cloud.acknowledges = True
    run(lambda store: store.outbox_stats().acknowledged == 40)
    sequences = {event["sequence"] for topic, event in cloud.heard if topic == "telemetry"}
    assert sequences == {f"{number:016d}" for number in range(1, 41)}
