"""The cloud's connection to a broker: settings, TLS, and one paho client whose callbacks only put on a queue (F22)."""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.messages.catalogue import ROOT, STATUS
from cloud.acks import AckMessage
from cloud.reading import TOPICS

log = logging.getLogger(__name__)

WINDOW: Final = 1000
"""Messages that the broker may have on their way to us, if its own limit is not lower."""
SESSION_S: Final = 7 * 24 * 3600
"""The broker keeps what comes while we are away for a week; what it drops, the devices send again."""
ACK_EXPIRY_S: Final = 24 * 3600
"""An acknowledgement for a device that is away longer is not needed: it sends the event again."""
_LONGEST_WAIT_S: Final = 30.0
_LOOK_S: Final = 0.5
_OUR_WINDOW: Final = 20
"""Acknowledgements on their way; the usual brokers allow at least this many."""


@dataclass(frozen=True)
class BrokerSettings:
    """Where the broker is and how we prove who we are."""

    host: str
    port: int
    ca: Path | None = None
    """TLS where given."""
    cert: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = None
    client_id: str = "dermascan-cloud"
    """One for each consumer, and the same at each start: the broker keeps its session under it."""
    group: str = "cloud"
    """Consumers of one group share the events among them."""


@dataclass(frozen=True)
class Delivery:
    """A message and the connection that it came on: its number means nothing on another one."""

    connection: int
    message: MQTTMessage


class Link:
    """Owns the paho client and the thread that keeps it connected. Deliveries are put on ``arrivals``."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self.arrivals: queue.Queue[Delivery | None] = queue.Queue(maxsize=10 * WINDOW)
        """None: nothing came, but there is room to publish again, or an end is asked for."""
        self.connections = 0
        self.dropped = 0
        """Messages of QoS 0 that came faster than they could be kept."""
        self.subscribed = threading.Event()
        """The broker has accepted every subscription of this connection."""
        self.trouble: str | None = None
        """Why there is no connection, or what the broker refused."""
        self._allowed = _OUR_WINDOW
        self._sent = self._sent_and_heard = 0  # each counted by one thread
        self._stopping = threading.Event()
        self._client = self._make()
        self._thread = threading.Thread(target=self._keep_connected, name="cloud-mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye; the broker keeps the session."""
        self._stopping.set()
        self._client.disconnect()
        self._thread.join(timeout=10)

    def done(self, delivery: Delivery) -> None:
        """Tell the broker that a message is durable here (PUBACK); of no effect where its connection is gone.

        Should the connection be exchanged at this very moment, the broker may take the PUBACK for another message's.
        That costs nothing: the device sends again what was not acknowledged to it.
        """
        if delivery.message.qos == 1 and delivery.connection == self.connections and self._client.is_connected():
            self._client.ack(delivery.message.mid, 1)

    @property
    def has_room(self) -> bool:
        """Whether the broker takes another message of ours now."""
        return self.subscribed.is_set() and self._sent - self._sent_and_heard < self._allowed

    def publish(self, message: AckMessage) -> None:
        """Send an acknowledgement; ask ``has_room`` before."""
        self._sent += 1
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = ACK_EXPIRY_S
        self._client.publish(message.topic, message.payload, qos=1, properties=properties)

    def _make(self) -> Client:
        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages_set(_OUR_WINDOW)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.ca is not None:
            context = ssl.create_default_context(cafile=str(settings.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if settings.cert is not None:
                context.load_cert_chain(settings.cert, settings.key)
            client.tls_set_context(context)
        client.on_connect, client.on_subscribe, client.on_message = (
            self._on_connect,
            self._on_subscribe,
            self._on_message,
        )
        client.on_publish, client.on_disconnect = self._on_publish, self._on_disconnect
        return client

    def _keep_connected(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = SESSION_S
                properties.ReceiveMaximum = WINDOW
                host, port = self._settings.host, self._settings.port
                self._client.connect(host, port, keepalive=30, clean_start=False, properties=properties)
                self._client.loop_forever()
            except (OSError, ValueError) as error:  # ssl's errors are OSErrors
                self.trouble = f"{type(error).__name__}: {error}"
            except Exception:  # whatever paho trips over: the next connection begins anew
                log.exception("the connection to the broker broke off")
            failures = 0 if self.subscribed.is_set() else failures + 1
            self.subscribed.clear()
            if not self._stopping.is_set():
                log.warning("no connection to the broker (%s); it is tried again", self.trouble)
            # Full jitter: a hundred consumers do not come back in the same moment.
            self._stopping.wait(random.uniform(0.0, min(_LONGEST_WAIT_S, 0.5 * 2.0 ** min(failures, 10))))  # noqa: S311

    # On paho's thread: nothing here may raise, nor wait for anything but room.

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self.trouble = f"the broker refused: {reason}"
            client.disconnect()
            return
        if self._stopping.is_set():  # the goodbye was said before there was a connection
            client.disconnect()
            return
        self.connections += 1
        self._allowed = min(_OUR_WINDOW, getattr(properties, "ReceiveMaximum", _OUR_WINDOW))  # paho does not look (F22)
        # A shared subscription gets no retained messages, and every consumer should know who is there.
        shared = [f"$share/{self._settings.group}/{ROOT}/+/+/{topic}" for topic in TOPICS]
        client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in (*shared, f"{ROOT}/+/+/{STATUS.topic}")])

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.trouble = f"the broker refused a subscription: {refused[0]}; allow it in the broker's ACL"
            log.error("%s", self.trouble)
        else:
            self.trouble = None
            log.info("subscribed at %s:%d", self._settings.host, self._settings.port)
            self.subscribed.set()

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        """A broker may send more than our window (mosquitto 2.0 does, when a session is taken up again).

        Then it waits here, and so does the broker, by TCP: thrown away, it would not come again on this connection.
        """
        delivery = Delivery(self.connections, message)
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self.arrivals.put(delivery, block=message.qos > 0, timeout=_LOOK_S)
                return
            if message.qos == 0:  # our devices send none, and nobody expects it to be kept
                self.dropped += 1
                return

    def _on_publish(self, _client: Any, _data: Any, _mid: int, _reason: ReasonCode, _properties: Any) -> None:
        """Refused ones too: the device sends again what it heard no acknowledgement of."""
        self._sent_and_heard += 1
        with suppress(queue.Full):
            self.arrivals.put_nowait(None)  # there may be more to tell

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self.subscribed.is_set() and not self._stopping.is_set():
            self.trouble = f"the connection ended: {reason}"
