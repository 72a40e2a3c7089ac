"""The publisher against a real broker: what is sent, what leaves the outbox, what ends and begins a connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from agent.messages.catalogue import ACK, COMMAND, FEEDBACK, TELEMETRY
from agent.sync.publisher import Publisher
from agent.sync.state import Phase
from tests.fakes.broker import Broker
from tests.sync.parts import QUICK, FakeOutbox, FakeRecords, SmallCloud, settings, wait_for

Make = Callable[..., Any]


def test_an_event_leaves_the_outbox_when_the_cloud_says_so(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    cloud: SmallCloud = make_cloud(broker.port)
    event_id = outbox.add()
    sync: Publisher = make_publisher(outbox, settings(broker.port))
    wait_for(lambda: outbox.of("acknowledged") == [event_id])
    assert cloud.heard[-1][1] == json.loads(outbox.rows[event_id].event)
    assert sync.state.phase is Phase.CONNECTED
    assert sync.state.protocol == "5"


@pytest.mark.fault("F18")
def test_a_puback_is_not_delivery(broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make) -> None:
    cloud: SmallCloud = make_cloud(broker.port, acknowledges=False)
    event_id = outbox.add()
    sync: Publisher = make_publisher(outbox, settings(broker.port))
    wait_for(lambda: sync.counts.taken == 1)
    assert outbox.of("waiting") == [event_id]
    wait_for(lambda: cloud.ids().count(event_id) >= 2, what="sent again, as no word came")
    assert outbox.rows[event_id].attempts >= 1


def test_where_the_settings_say_so_a_puback_is_delivery(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    make_cloud(broker.port, acknowledges=False)
    ids = [outbox.add() for _ in range(5)]
    make_publisher(outbox, settings(broker.port, delivery="puback"))
    wait_for(lambda: outbox.of("acknowledged") == ids)


def test_birth_goodbye_and_will(broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make) -> None:
    cloud: SmallCloud = make_cloud(broker.port)
    sync: Publisher = make_publisher(outbox, settings(broker.port))
    wait_for(lambda: cloud.states() == ["online"])
    assert sync.stop()
    wait_for(lambda: cloud.states() == ["online", "offline"])
    assert sync.state.phase is Phase.STOPPED

    lost: Publisher = make_publisher(outbox, settings(broker.port))
    wait_for(lambda: cloud.states()[-1] == "online")
    assert lost._connection is not None
    lost._connection._client.socket().shutdown(2)  # type: ignore[union-attr]
    wait_for(lambda: cloud.states()[2:] == ["online", "lost", "online"])


@pytest.mark.fault("F18")
def test_a_broker_killed_in_the_stream_loses_nothing(
    make_broker: Make, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    broker: Broker = make_broker()
    cloud: SmallCloud = make_cloud(broker.port)
    make_publisher(outbox, settings(broker.port))
    for burst in range(2):
        ids = [outbox.add() for _ in range(400)]
        wait_for(lambda: len(outbox.of("acknowledged")) > 400 * burst + 50)  # noqa: B023
        broker.kill()
        broker.start()
        wait_for(lambda: set(ids) <= set(cloud.ids()))  # noqa: B023
    wait_for(lambda: not outbox.of("waiting"))
    assert len(outbox.of("acknowledged")) == 800


@pytest.mark.fault("F19")
def test_what_is_repeated_is_the_same_to_the_byte(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    cloud: SmallCloud = make_cloud(broker.port, acknowledges=False)
    event_id = outbox.add()
    make_publisher(outbox, settings(broker.port))
    wait_for(lambda: len(cloud.ids()) >= 2)
    events = [event for topic, event in cloud.heard if topic == "results"]
    assert events[0] == events[1]
    assert events[0]["id"] == event_id
    cloud.acknowledges = True
    wait_for(lambda: outbox.of("acknowledged") == [event_id])


@pytest.mark.fault("F20")
def test_what_is_fresh_passes_the_backlog(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    cloud: SmallCloud = make_cloud(broker.port)
    for _ in range(2000):
        outbox.add()
    figures = outbox.add(TELEMETRY)
    make_publisher(outbox, settings(broker.port, backlog_per_s=200.0))
    wait_for(lambda: len(cloud.ids()) > 20)
    fresh, verdict = outbox.add(), outbox.add(FEEDBACK)
    wait_for(lambda: {fresh, verdict} <= set(outbox.of("acknowledged")), 1.0, "within a second")
    assert len(outbox.of("waiting")) > 1000
    assert figures in outbox.of("waiting")


@pytest.mark.fault("F20")
def test_an_absent_cloud_does_not_hold_up_what_is_fresh(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    cloud: SmallCloud = make_cloud(broker.port, acknowledges=False)
    for _ in range(50):
        outbox.add()
    limits = replace(QUICK, awaiting=10, awaiting_fresh=5, acknowledge_s=60.0, acknowledge_cap_s=60.0)
    sync: Publisher = make_publisher(outbox, settings(broker.port), limits=limits)
    wait_for(lambda: len(cloud.ids()) == 10)
    fresh = outbox.add()
    wait_for(lambda: fresh in cloud.ids())
    assert len(cloud.ids()) == 11
    assert sync.state.awaiting <= 11


def test_asked_to_sync_now_it_does_not_wait_for_the_cloud_any_longer(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    cloud: SmallCloud = make_cloud(broker.port, acknowledges=False)
    event_id = outbox.add()
    sync: Publisher = make_publisher(
        outbox, settings(broker.port), limits=replace(QUICK, acknowledge_s=600.0, acknowledge_cap_s=600.0)
    )
    wait_for(lambda: sync.counts.taken == 1)
    sync.sync_now()
    wait_for(lambda: cloud.ids() == [event_id, event_id])


def test_no_acknowledgement_is_lost_where_the_store_had_no_room(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sync.downlink.STORE_PAUSE_S", 0.1)
    monkeypatch.setattr("agent.sync.courier.STORE_PAUSE_S", 0.1)
    make_cloud(broker.port)
    outbox.fails = [OSError("no room"), OSError("no room")]
    event_id = outbox.add()
    make_publisher(outbox, settings(broker.port))
    wait_for(lambda: outbox.of("acknowledged") == [event_id])


class SlowToRead(FakeOutbox):
    """As the real one while it writes: what is looked up comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[Future[Any], Any]] = []
        self.slow = True

    def outbox_look(self, limit: int, *, fresh_after_seq: int, exclude: Collection[str]) -> Future[Any]:
        found = super().outbox_look(limit, fresh_after_seq=fresh_after_seq, exclude=exclude)
        if not self.slow:
            return found
        later: Future[Any] = Future()
        self.looks.append((later, found.result()))
        return later


def test_while_the_store_is_slow_the_connection_is_not(broker: Broker, make_publisher: Make, make_cloud: Make) -> None:
    outbox = SlowToRead()
    cloud: SmallCloud = make_cloud(broker.port)
    first, second = outbox.add(), outbox.add()
    records = FakeRecords()
    make_publisher(outbox, settings(broker.port), records)
    wait_for(lambda: len(outbox.looks) == 1)
    command = cloud.say(COMMAND, {"command": "send-report"})
    wait_for(lambda: [event.id for event in records.commands] == [command], what="heard while the outbox is read")
    cloud.say(ACK, {"ids": [first]})  # by another way: meanwhile the cloud has it
    wait_for(lambda: outbox.of("acknowledged") == [first])
    assert len(outbox.looks) == 1, "one look at a time"
    outbox.slow = False
    outbox.looks[0][0].set_result(outbox.looks[0][1])
    wait_for(lambda: outbox.of("acknowledged") == [first, second])
    assert second in cloud.ids()


def test_what_was_read_for_a_connection_that_is_gone_is_read_again(
    broker: Broker, make_publisher: Make, make_cloud: Make
) -> None:
    outbox = SlowToRead()
    cloud: SmallCloud = make_cloud(broker.port)
    event_id = outbox.add()
    sync: Publisher = make_publisher(outbox, settings(broker.port))
    wait_for(lambda: len(outbox.looks) == 1)
    assert sync._connection is not None
    sync._connection._client.socket().shutdown(2)  # type: ignore[union-attr]
    wait_for(lambda: len(outbox.looks) == 2, what="a look for the next connection")
    outbox.slow = False
    outbox.looks[0][0].set_result(outbox.looks[0][1])
    outbox.looks[1][0].set_result(outbox.looks[1][1])
    wait_for(lambda: outbox.of("acknowledged") == [event_id])
    assert cloud.ids() == [event_id]
