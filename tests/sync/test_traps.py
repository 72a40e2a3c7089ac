"""paho's traps and the broker's (F16, F17, F21, F22), each against a real mosquitto."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from agent.messages.catalogue import FEEDBACK, TELEMETRY
from agent.sync.connection import Connection
from agent.sync.publisher import Publisher
from agent.sync.state import Phase
from tests.fakes.broker import Broker
from tests.fakes.certificates import CertificateAuthority
from tests.sync.parts import QUICK, FakeOutbox, SmallCloud, settings, wait_for
from tests.sync.proxy import Proxy

Make = Callable[..., Any]


@pytest.fixture
def make_proxy() -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(*arguments: Any, **more: Any) -> Proxy:
        made.append(Proxy(*arguments, **more))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def access(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An access list for everybody at a plain broker."""

    def write(text: str) -> dict[str, str]:
        path = tmp_path / "plain-access"
        path.write_text(text, encoding="utf-8")
        return {"acl_file": str(path)}

    return write


# One bad row


def _hundred_with_one(outbox: FakeOutbox, payload: bytes) -> tuple[list[str], str]:
    good = [outbox.add() for _ in range(50)]
    bad = outbox.add(event=payload)
    return good + [outbox.add() for _ in range(50)], bad


@pytest.mark.fault("F21")
def test_a_row_too_large_for_the_broker_is_given_up_and_holds_up_nothing(
    make_broker: Make, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    broker: Broker = make_broker(settings={"max_packet_size": "20000"})
    make_cloud(broker.port)
    good, bad = _hundred_with_one(outbox, b"x" * 50_000)
    sync: Publisher = make_publisher(outbox, settings(broker.port))
    wait_for(lambda: set(outbox.of("acknowledged")) == set(good))
    assert outbox.of("dead") == [bad]
    assert "takes packets of 20000" in outbox.reasons[bad]
    assert sync.counts.attempts == 1  # no reconnecting at all


@pytest.mark.fault("F21")
def test_a_row_that_the_broker_refuses_for_its_size_is_given_up(
    make_broker: Make, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    broker: Broker = make_broker(settings={"message_size_limit": "20000"})
    make_cloud(broker.port)
    good, bad = _hundred_with_one(outbox, b"x" * 50_000)
    make_publisher(outbox, settings(broker.port), limits=replace(QUICK, blames=2))  # mosquitto 2.0.11 closes over it
    wait_for(lambda: set(outbox.of("acknowledged")) == set(good))
    wait_for(lambda: outbox.of("dead") == [bad])


@pytest.mark.fault("F21")
def test_a_row_over_which_the_broker_closes_the_connection_is_found_and_given_up(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make, make_proxy: Make
) -> None:
    make_cloud(broker.port)
    proxy: Proxy = make_proxy(broker.port, breaks_on=b"POISON")
    good, bad = _hundred_with_one(outbox, b'{"id":"p","data":"POISON"}')
    limits = replace(QUICK, blames=2, reconnect_cap_s=0.1)
    sync: Publisher = make_publisher(outbox, settings(proxy.port), limits=limits)
    wait_for(lambda: set(outbox.of("acknowledged")) == set(good))
    wait_for(lambda: outbox.of("dead") == [bad])
    assert "closed the connection over it 2 times" in outbox.reasons[bad]
    assert proxy.broke < 12
    later = outbox.add()
    wait_for(lambda: later in outbox.of("acknowledged"))
    assert sync.state.phase is Phase.CONNECTED


@pytest.mark.fault("F21")
def test_a_row_with_an_impossible_topic_is_given_up(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    make_cloud(broker.port)
    bad, good = outbox.add(topic="results/#"), outbox.add()
    sync: Publisher = make_publisher(outbox, settings(broker.port))
    wait_for(lambda: outbox.of("acknowledged") == [good])
    assert outbox.of("dead") == [bad]
    assert sync.counts.rebuilt == 0


# What paho does


@pytest.mark.fault("F22")
@pytest.mark.parametrize("callback", ["_on_publish", "_on_subscribe", "_on_connect", "_on_message", "_on_disconnect"])
def test_an_exception_in_a_callback_makes_a_new_client(  # noqa: PLR0917
    broker: Broker,
    outbox: FakeOutbox,
    make_publisher: Make,
    make_cloud: Make,
    make_proxy: Make,
    monkeypatch: pytest.MonkeyPatch,
    callback: str,
) -> None:
    make_cloud(broker.port)
    proxy: Proxy = make_proxy(broker.port)
    raised = threading.Event()
    real = getattr(Connection, callback)

    def once(self: Connection, *arguments: Any) -> None:
        if not raised.is_set():
            raised.set()
            raise RuntimeError("a fault of ours")
        real(self, *arguments)

    monkeypatch.setattr(Connection, callback, once)
    sync: Publisher = make_publisher(outbox, settings(proxy.port))
    first = outbox.add()
    if callback == "_on_disconnect":
        wait_for(lambda: first in outbox.of("acknowledged"))
        proxy.cut()
    wait_for(raised.is_set)
    second = outbox.add()
    wait_for(lambda: set(outbox.of("acknowledged")) == {first, second})
    assert sync.counts.rebuilt == 1
    assert sync.alive


@pytest.mark.fault("F22")
@pytest.mark.parametrize("delivery", ["cloud-ack", "puback"])
def test_what_the_access_list_denies_is_not_delivered_and_holds_up_no_other_topic(  # noqa: PLR0917
    make_broker: Make,
    outbox: FakeOutbox,
    make_publisher: Make,
    make_cloud: Make,
    access: Callable[[str], dict[str, str]],
    delivery: str,
) -> None:
    rules = "topic read dermascan/#\ntopic write dermascan/v1/+/+/%s\n"
    allowed = "".join(rules % name for name in ("telemetry", "status", "ack", "command"))
    broker: Broker = make_broker(settings=access(allowed))
    cloud: SmallCloud = make_cloud(broker.port)
    results, figures = [outbox.add() for _ in range(30)], [outbox.add(TELEMETRY) for _ in range(30)]
    sync: Publisher = make_publisher(outbox, settings(broker.port, delivery=delivery))
    wait_for(lambda: set(outbox.of("acknowledged")) == set(figures))
    assert outbox.of("waiting") == results
    assert cloud.ids() == []
    assert sync.counts.refused > 0
    assert sync.state.held_topics == ("results",)
    assert "results" in sync.state.sentence


@pytest.mark.fault("F22")
def test_a_row_refused_again_and_again_is_given_up_with_the_reason(
    make_broker: Make, outbox: FakeOutbox, make_publisher: Make, access: Callable[[str], dict[str, str]]
) -> None:
    broker: Broker = make_broker(settings=access("topic read dermascan/#\n"))
    bad = outbox.add()
    limits = replace(QUICK, refusals=3, hold_base_s=0.05, hold_cap_s=0.1)
    make_publisher(outbox, settings(broker.port), limits=limits)
    wait_for(lambda: outbox.of("dead") == [bad])
    assert "access list" in outbox.reasons[bad]


@pytest.mark.fault("F22")
@pytest.mark.parametrize("delivery", ["cloud-ack", "puback"])
def test_no_matching_subscribers_means_that_nobody_heard(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make, delivery: str
) -> None:
    event_id = outbox.add()
    sync: Publisher = make_publisher(outbox, settings(broker.port, delivery=delivery))
    wait_for(lambda: sync.counts.unheard > 0)
    assert outbox.of("waiting") == [event_id]
    cloud: SmallCloud = make_cloud(broker.port)
    wait_for(lambda: outbox.of("acknowledged") == [event_id])
    wait_for(lambda: cloud.ids() == [event_id])
    assert sync.counts.sent < 20  # not all the time


@pytest.mark.fault("F22")
def test_a_lock_of_the_caller_cannot_deadlock_with_the_connection(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    make_cloud(broker.port)
    sync: Publisher = make_publisher(outbox, settings(broker.port))
    lock, waited = threading.Lock(), outbox.outbox_acknowledge

    def acknowledge_under_lock(event_ids: Any) -> Any:
        with lock:
            return waited(event_ids)

    outbox.outbox_acknowledge = acknowledge_under_lock  # type: ignore[method-assign]

    def add() -> None:
        for _ in range(100):
            with lock:
                outbox.add()
                sync.sync_now()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    wait_for(lambda: len(outbox.of("acknowledged")) == 400)


@pytest.mark.fault("F22")
def test_the_brokers_receive_maximum_holds_also_after_a_reconnect(
    make_broker: Make, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make, make_proxy: Make
) -> None:
    broker: Broker = make_broker(settings={"max_inflight_messages": "5"})
    make_cloud(broker.port)
    proxy: Proxy = make_proxy(broker.port)
    sync: Publisher = make_publisher(outbox, settings(proxy.port))
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)
    most: list[int] = []
    flights = sync._courier.flights
    left = flights.left

    def watch(*arguments: Any, **more: Any) -> None:
        left(*arguments, **more)
        most.append(flights.flying)

    flights.left = watch  # type: ignore[method-assign]
    ids = [outbox.add() for _ in range(300)]
    wait_for(lambda: len(outbox.of("acknowledged")) > 50)
    proxy.cut()
    wait_for(lambda: set(outbox.of("acknowledged")) == set(ids))
    assert max(most) == 5
    assert sync.counts.connections == 2


@pytest.mark.fault("F22")
def test_a_connection_that_takes_nothing_any_more_is_left(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make, make_proxy: Make
) -> None:
    make_cloud(broker.port)
    proxy: Proxy = make_proxy(broker.port)
    sync: Publisher = make_publisher(outbox, settings(proxy.port), limits=replace(QUICK, puback_s=0.5))
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)
    proxy.silent = True
    event_id = outbox.add()
    wait_for(lambda: "takes nothing" in sync.state.sentence)
    proxy.silent = False
    wait_for(lambda: outbox.of("acknowledged") == [event_id])
    assert outbox.rows[event_id].attempts == 0  # silence is no fault of the row's


# Storms


@pytest.fixture
def kicking_port() -> Iterator[tuple[int, list[float]]]:
    """A broker that greets, and closes at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    times: list[float] = []

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            times.append(time.monotonic())
            near.recv(4096)
            near.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK, success
            near.close()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], times
    listener.close()


@pytest.mark.fault("F17")
def test_a_broker_that_greets_and_kicks_is_not_stormed(
    kicking_port: tuple[int, list[float]], outbox: FakeOutbox, make_publisher: Make
) -> None:
    port, times = kicking_port
    sync: Publisher = make_publisher(outbox, settings(port), limits=replace(QUICK, reconnect_cap_s=60.0))
    wait_for(lambda: sync._backoff.failures >= 5)
    assert len(times) <= sync._backoff.failures + 1  # every greeting counts as a failure, and lengthens the pause


@pytest.mark.fault("F17")
def test_two_agents_of_one_name_do_not_throw_each_other_out_for_ever(broker: Broker, make_publisher: Make) -> None:
    limits = replace(QUICK, reconnect_base_s=0.2, reconnect_cap_s=60.0)
    both = [make_publisher(FakeOutbox(), settings(broker.port), limits=limits) for _ in range(2)]
    wait_for(lambda: sum(sync._backoff.failures for sync in both) >= 6, 25.0)
    assert sum(sync.counts.attempts for sync in both) <= 10
    wait_for(lambda: any("another agent calls itself device-1" in sync.state.sentence for sync in both), 25.0)


# Old brokers


@pytest.mark.parametrize("answer", [b"", b"\x20\x02\x00\x01"], ids=["closes", "says so"])
def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(  # noqa: PLR0917
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make, make_proxy: Make, answer: bytes
) -> None:
    make_cloud(broker.port)
    proxy: Proxy = make_proxy(broker.port, breaks_on=b"\x00\x04MQTT\x05", answer=answer)
    event_id = outbox.add()
    sync: Publisher = make_publisher(outbox, settings(proxy.port))
    wait_for(lambda: outbox.of("acknowledged") == [event_id])
    assert sync.state.protocol == "3.1.1"


# Wrong clocks


@pytest.mark.fault("F16")
def test_a_certificate_of_the_future_is_tried_again_while_the_clock_is_not_believed(
    make_broker: Make, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    good = authority.server()
    broker: Broker = make_broker(authority)
    broker.stop()
    kept = good.cert.read_bytes(), good.key.read_bytes()
    authority.server(not_yet=True)  # in the place of the broker's
    broker.start()
    device, cloud = authority.device("device-1"), authority.device("cloud")
    trusted = threading.Event()
    sync: Publisher = make_publisher(
        outbox,
        settings(broker.port, authority, device),
        clock_trusted=trusted.is_set,
        wall=lambda: datetime(1970, 1, 1, tzinfo=timezone.utc),
    )
    event_id = outbox.add()
    wait_for(lambda: sync.counts.attempts >= 2)
    wait_for(lambda: "not yet valid" in sync.state.sentence)
    assert "clock is not believed" in sync.state.sentence
    broker.stop()
    good.cert.write_bytes(kept[0])
    good.key.write_bytes(kept[1])
    broker.start()
    make_cloud(broker.port, authority.cert, cloud)
    trusted.set()
    wait_for(lambda: outbox.of("acknowledged") == [event_id])


@pytest.mark.fault("F16")
def test_intervals_do_not_follow_the_wall_clock(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    walls = iter([datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2038, 1, 1, tzinfo=timezone.utc)] * 1000)
    make_cloud(broker.port)
    make_publisher(outbox, settings(broker.port), wall=lambda: next(walls))
    ids = [outbox.add(FEEDBACK) for _ in range(20)]
    wait_for(lambda: outbox.of("acknowledged") == ids)
