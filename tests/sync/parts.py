"""An outbox without a database, a cloud of a few lines, and how tests wait."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config import MqttSection
from agent.messages.catalogue import ACK, FEEDBACK, RESULT, TELEMETRY
from agent.messages.envelope import Sender, event_bytes
from agent.records.outbox import OutboxRow, OutboxStats
from agent.sync.inbox import Inbox
from agent.sync.limits import SyncLimits
from agent.sync.publisher import Publisher
from tests.fakes.certificates import CertificateAuthority, Issued

SENDER = Sender("clinic-1", "device-1", "9.9")
QUICK = SyncLimits(
    reconnect_base_s=0.1,
    reconnect_cap_s=0.5,
    hold_base_s=0.2,
    hold_cap_s=0.5,
    acknowledge_s=2.0,
    acknowledge_cap_s=4.0,
    connect_s=3.0,
    greeting_s=3.0,
    look_s=2.0,
)


def wait_for(condition: Callable[[], Any], timeout_s: float = 15.0, what: str = "") -> None:
    """Until it is so; fails where that takes too long."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"did not come about: {what or condition}"
        time.sleep(0.005)


class FakeOutbox:
    """Keeps the rules of the real one, in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rows: dict[str, OutboxRow] = {}
        self.states: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.on_posted: Callable[[], None] = lambda: None
        self.last_seq = 0
        self.fails: list[Exception] = []
        """What the next writes fail with."""

    def add(self, kind: Any = RESULT, text: str = "x", *, topic: str | None = None, event: bytes | None = None) -> str:
        with self._lock:
            self.last_seq += 1
            event_id = str(uuid.uuid4())
            payload = event or event_bytes(
                SENDER, kind, event_id=event_id, subject="s", seq=self.last_seq, time="t", data={"text": text}
            )
            row = OutboxRow(self.last_seq, event_id, kind.type, topic or kind.topic, payload, 0, "t")
            self.rows[event_id], self.states[event_id] = row, "waiting"
        self.on_posted()
        return event_id

    def of(self, state: str) -> list[str]:
        with self._lock:
            return [event_id for event_id, has in self.states.items() if has == state]

    def outbox_look(self, limit: int, *, fresh_after_seq: int, exclude: Collection[str]) -> Future[list[OutboxRow]]:
        with self._lock:
            due = [r for i, r in self.rows.items() if self.states[i] == "waiting" and i not in exclude]

        def rank(row: OutboxRow) -> tuple[int, int]:
            if row.type == FEEDBACK.type:
                return 0, row.seq
            if row.type == TELEMETRY.type:
                return 3, row.seq
            return (1 if row.seq > fresh_after_seq else 2), row.seq

        found: Future[list[OutboxRow]] = Future()
        found.set_result(sorted(due, key=rank)[:limit])
        return found

    def outbox_acknowledge(self, event_ids: Iterable[str]) -> Future[int]:
        return self._write(lambda: sum(self._to(event_id, "acknowledged") for event_id in event_ids))

    def outbox_attempted(self, event_ids: Iterable[str]) -> Future[None]:
        def count() -> None:
            for event_id in event_ids:
                self.rows[event_id] = self.rows[event_id]._replace(attempts=self.rows[event_id].attempts + 1)

        return self._write(count)

    def outbox_dead(self, event_id: str, reason: str) -> Future[None]:
        def bury() -> None:
            self._to(event_id, "dead")
            self.reasons[event_id] = reason

        return self._write(bury)

    def outbox_stats(self) -> OutboxStats:
        states = Counter(self.states.values())
        return OutboxStats(states["waiting"], states["acknowledged"], states["dead"], self.last_seq, None, {})

    def _to(self, event_id: str, state: str) -> bool:
        if self.states.get(event_id, state) == state:
            return False
        self.states[event_id] = state
        return True

    def _write(self, run: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        with self._lock:
            if self.fails:
                done.set_exception(self.fails.pop(0))
            else:
                done.set_result(run())
        return done


class FakeRecords:
    """Where what comes down ends, in memory."""

    def __init__(self) -> None:
        self.ground_truths: list[Any] = []
        self.commands: list[Any] = []
        self.posted: list[Any] = []
        self.fails: list[Exception] = []

    def ground_truth(self, event: Any, reply: Any) -> Future[Any]:
        return self._done(lambda: self.ground_truths.append(event))

    def command_seen(self, event: Any, postings: Any) -> Future[bool]:
        def see() -> bool:
            seen = event.id in [command.id for command in self.commands]
            self.commands.append(event)
            self.posted += [] if seen else [(posting.message, posting.data) for posting in postings]
            return not seen

        return self._done(see)

    def post(self, message: Any, subject: str, data: Any, scan_id: str | None = None) -> Future[str]:
        return self._done(lambda: self.posted.append((message, data)) or "id")

    def _done(self, run: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        if self.fails:
            done.set_exception(self.fails.pop(0))
        else:
            done.set_result(run())
        return done


def settings(port: int, ca: CertificateAuthority | None = None, issued: Issued | None = None, **more: Any) -> Any:
    """A section ``[mqtt]`` for a broker on this machine."""
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "backlog_per_s": 100_000.0}
    if ca is not None:
        values["ca"] = ca.cert
    if issued is not None:
        values |= {"cert": issued.cert, "key": issued.key}
    return MqttSection.model_validate(values | more)


def publisher(
    outbox: Any, section: MqttSection, records: Any = None, sender: Sender = SENDER, **more: Any
) -> Publisher:
    """Not started."""
    inbox = Inbox(records or FakeRecords(), sender, lambda: {"outbox_waiting": 1.0})
    more.setdefault("limits", QUICK)
    made = Publisher(outbox, inbox, section, sender, **more)
    outbox.on_posted = made.wake
    return made


class SmallCloud:
    """Subscribes to every device's topics, notes what comes, acknowledges it while told to."""

    def __init__(
        self,
        port: int,
        ca: Path | None = None,
        issued: Issued | None = None,
        *,
        acknowledges: bool = True,
        topics: Collection[str] = ("results", "feedback", "telemetry", "status"),
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
    ) -> None:
        self.acknowledges = acknowledges
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.topics = topics
        self.subscribed = threading.Event()
        five = version is MQTTProtocolVersion.MQTTv5
        forget = None if five else False
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="cloud", clean_session=forget, protocol=version)
        if ca is not None and issued is not None:
            self.client.tls_set(str(ca), str(issued.cert), str(issued.key))
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self._on_message
        if five:
            session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            session.SessionExpiryInterval = 3600
            self.client.connect("127.0.0.1", port, 30, clean_start=False, properties=session)
        else:
            self.client.connect("127.0.0.1", port, 30)
        self.client.loop_start()

    def _on_connect(self, *_: Any) -> None:
        self.client.subscribe([(f"dermascan/v1/+/+/{topic}", 1) for topic in self.topics])

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        event = json.loads(message.payload)
        name = message.topic.rsplit("/", 1)[1]
        self.heard.append((name, event))
        if self.acknowledges and name != "status":
            self.say(ACK, {"ids": [event["id"]]})

    def say(self, kind: Any, data: Mapping[str, Any], *, event_id: str | None = None, device: str = "device-1") -> str:
        event_id = event_id or str(uuid.uuid4())
        sender = Sender("clinic-1", device, "cloud")
        payload = event_bytes(sender, kind, event_id=event_id, subject=device, seq=None, time="t", data=data)
        self.say_bytes(kind.topic, payload, device=device)
        return event_id

    def say_bytes(self, topic: str, payload: bytes, *, device: str = "device-1") -> None:
        self.client.publish(f"dermascan/v1/clinic-1/{device}/{topic}", payload, qos=1)

    def ids(self, name: str = "results") -> list[str]:
        return [event["id"] for topic, event in list(self.heard) if topic == name]

    def states(self) -> list[str]:
        return [event["data"]["state"] for topic, event in list(self.heard) if topic == "status"]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
