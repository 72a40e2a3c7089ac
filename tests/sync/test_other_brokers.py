"""The contract at brokers of other houses: rumqttd with MQTT 5, and nats-server, which knows 3.1.1 only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from agent.messages.catalogue import COMMAND, FEEDBACK, GROUND_TRUTH, TELEMETRY
from agent.sync.publisher import Publisher
from agent.sync.state import Phase
from tests.fakes.other_brokers import nats, rumqttd
from tests.sync.parts import FakeOutbox, FakeRecords, SmallCloud, settings, wait_for

Make = Callable[..., Any]
BROKERS = {
    "rumqttd": (rumqttd, "5", MQTTProtocolVersion.MQTTv5),
    "nats-server": (nats, "3.1.1", MQTTProtocolVersion.MQTTv311),
}


@pytest.fixture(params=BROKERS)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, str, MQTTProtocolVersion]]:
    """A broker's port, the version that the agent is to come to, and the same for the cloud."""
    run, spoken, version = BROKERS[request.param]
    with run(tmp_path) as port:
        yield port, spoken, version


def test_events_go_up_the_clouds_word_comes_back_and_they_leave_the_outbox(
    other: tuple[int, str, MQTTProtocolVersion], outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    port, spoken, version = other
    cloud: SmallCloud = make_cloud(port, version=version)
    kinds = [FEEDBACK, TELEMETRY]
    ids = [outbox.add() for _ in range(150)] + [outbox.add(kind) for kind in kinds]
    sync: Publisher = make_publisher(outbox, settings(port))
    wait_for(lambda: sync.state.phase is Phase.CONNECTED, what=f"a connection: {sync.state}")
    assert sync.state.protocol == spoken
    wait_for(lambda: sorted(outbox.of("acknowledged")) == sorted(ids), 20.0, f"all acknowledged: {sync.counts}")
    assert set(cloud.ids()) == set(ids[:150])
    assert cloud.states()[-1] == "online"
    assert sync.stop()
    wait_for(lambda: cloud.states()[-1] == "offline")


def test_what_the_cloud_says_comes_down(
    other: tuple[int, str, MQTTProtocolVersion], outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    port, _, version = other
    cloud: SmallCloud = make_cloud(port, version=version)
    records = FakeRecords()
    sync: Publisher = make_publisher(outbox, settings(port), records)
    wait_for(lambda: cloud.states() == ["online"])
    truth = cloud.say(GROUND_TRUTH, {"scan_id": "scan-1", "diagnosis": "melanoma"})
    command = cloud.say(COMMAND, {"command": "send-report"})
    wait_for(lambda: [event.id for event in records.ground_truths] == [truth])
    wait_for(lambda: [event.id for event in records.commands] == [command])
    assert sync.stop()
    later = cloud.say(COMMAND, {"command": "sync-now"})
    make_publisher(outbox, settings(port), records)
    wait_for(lambda: [event.id for event in records.commands] == [command, later], what="kept while it was away")


def test_a_connection_that_breaks_is_begun_anew_and_loses_nothing(
    other: tuple[int, str, MQTTProtocolVersion], outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    port, spoken, version = other
    make_cloud(port, version=version)
    sync: Publisher = make_publisher(outbox, settings(port))
    ids = []
    for turn in range(1, 4):
        ids += [outbox.add() for _ in range(50)]
        wait_for(lambda: sync.counts.connections == turn and sync.counts.sent > 0)  # noqa: B023
        assert sync._connection is not None
        sync._connection._client.socket().shutdown(2)  # type: ignore[union-attr]
        wait_for(lambda: sync.counts.connections > turn)  # noqa: B023
    wait_for(lambda: sorted(outbox.of("acknowledged")) == sorted(ids), 20.0, f"all acknowledged: {sync.counts}")
    assert sync.state.protocol == spoken, "what was found out about the broker is kept"
