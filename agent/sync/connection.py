"""One connection to a broker, from its making to its end: the only module that knows paho.

paho 2.2 is run without its network thread: the sync's own thread reads, writes and looks at the clock. So an exception
surfaces where it is handled, and no lock of paho's is shared. A client is thrown away with its connection: paho would
send again what it holds without regard to any window (F22). What was on its way is sent again from the outbox.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.config import MqttSection
from agent.sync.bell import Bell
from agent.sync.dialect import MQTT5
from agent.sync.happenings import MUTE, Greeted, Happening, Heard, Lost, Subscribed, Taken, TurnedAway
from agent.sync.limits import SyncLimits
from agent.sync.tls import CannotConnect, Context, open_context, read_password

_LARGEST_HEARD: Final = 256 * 1024
_MOST_HEARD: Final = 20
"""Messages from the cloud that may wait for our acknowledgement at once."""
_READS: Final = 16


@dataclass(frozen=True)
class Will:
    """What the broker says in our name where the connection breaks without a goodbye; retained."""

    topic: str
    payload: bytes


class Connection:
    """Use from one thread. ``open`` it, ``pump`` it until something is ``Lost``, ``close`` it."""

    def __init__(
        self, settings: MqttSection, device_id: str, will: Will, limits: SyncLimits, version: MQTTProtocolVersion
    ) -> None:
        self._settings, self._limits, self._version = settings, limits, version
        self._device_id = device_id
        self._happened: list[Happening] = []
        self._over = False
        self._said = _LastWords()
        self._poll = select.poll()
        self._socket_number = -1
        self._context: Context | None = None
        self._client = self._make_client(will)
        self._with_publish = _EventProperties() if version is MQTT5 else None

    def _make_client(self, will: Will) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._device_id,
            clean_session=None if self._version is MQTT5 else False,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages_set(0)  # the window is ours
        client.connect_timeout = self._limits.connect_s
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.enable_logger(self._said.logger)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = _no_delay
        client.on_socket_register_write = _nothing  # with one, paho queues; we write in the loop
        return client

    def open(self) -> None:
        """Reach the broker and greet it; its answer comes with `pump`.

        Raises:
            CannotConnect: it cannot be reached, or not believed.
        """
        settings, where = self._settings, f"{self._settings.host}:{self._settings.port}"
        self._context = open_context(settings, self._device_id)
        if self._context is not None:
            self._client.tls_set_context(self._context)
        if settings.username is not None:
            self._client.username_pw_set(settings.username, read_password(settings))
        try:
            if self._version is MQTT5:
                properties = _properties(
                    PacketTypes.CONNECT,
                    SessionExpiryInterval=self._limits.session_s,
                    ReceiveMaximum=_MOST_HEARD,
                    MaximumPacketSize=_LARGEST_HEARD,
                )
                self._client.connect(
                    settings.host, settings.port, self._limits.keepalive_s, clean_start=False, properties=properties
                )
            else:
                self._client.connect(settings.host, settings.port, self._limits.keepalive_s)
        except ssl.SSLCertVerificationError as error:
            raise CannotConnect(f"{where}: its certificate is not believed ({error.verify_message})") from error
        except ssl.SSLError as error:
            raise CannotConnect(f"{where}: no TLS ({error.reason or error})") from error
        except (OSError, ValueError) as error:
            raise CannotConnect(f"{where}: cannot be reached ({error})") from error
        if (opened := self._client.socket()) is None:
            raise CannotConnect(f"{where}: closed the connection at once")
        self._socket_number = opened.fileno()

    def pump(self, timeout_s: float, bell: Bell) -> list[Happening]:
        """Read and write; wait for something to happen, or for the bell, but not longer than ``timeout_s``."""
        client = self._client
        if (open_socket := client.socket()) is not None:
            pending = isinstance(open_socket, ssl.SSLSocket) and open_socket.pending() > 0
            wanted = select.POLLIN | (select.POLLOUT if client.want_write() else 0)
            self._poll.register(self._socket_number, wanted)
            self._poll.register(bell.fileno(), select.POLLIN)
            wait_ms = 0 if pending or self._happened else max(0, int(timeout_s * 1000 + 0.999))
            ready = dict(self._poll.poll(wait_ms))
            if bell.fileno() in ready:
                bell.silence()
            if pending or ready.get(self._socket_number, 0) & ~select.POLLOUT:
                self._read()  # before writing: a refusal is lost where the writing fails first
            if client.want_write():
                client.loop_write()
            client.loop_misc()
        if client.socket() is None and not self._over:
            self._lose(None, "", closed=False)
        happened, self._happened = self._happened, []
        return happened

    def _read(self) -> None:
        for _ in range(_READS):
            self._client.loop_read()
            open_socket = self._client.socket()
            if not isinstance(open_socket, ssl.SSLSocket) or open_socket.pending() == 0:
                return

    def subscribe(self, topics: Collection[str]) -> None:
        """Ask for what comes down; the answer is `Subscribed`."""
        self._client.subscribe([(topic, 1) for topic in topics])

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int | None:
        """Queue a message; returns the packet's number, or None where the connection is gone."""
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=self._with_publish)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def acknowledge(self, heard: Heard) -> None:
        """What came is dealt with, durably: the broker may forget it."""
        self._client.ack(heard.number, heard.qos)

    def goodbye(self) -> None:
        """Tell the broker that we go; without it it publishes the Will."""
        self._over = True
        self._client.disconnect()
        self._client.loop_write()

    def close(self) -> None:
        """Let go of the socket, with or without a goodbye."""
        self._over = True
        if (open_socket := self._client.socket()) is not None:
            open_socket.close()
        if self._context is not None:
            self._context.give_up()

    # paho's callbacks: nothing but a note of what happened

    def _on_connect(
        self, _client: Client, _data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._happened.append(TurnedAway(reason.value, f"the broker said: {reason}"))
            return
        self._happened.append(
            Greeted(
                flags.session_present,
                getattr(properties, "ReceiveMaximum", 65535),
                getattr(properties, "MaximumPacketSize", None),
            )
        )

    def _on_subscribe(
        self, _client: Client, _data: Any, _number: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._happened.append(Subscribed(sum(reason.is_failure for reason in reasons)))

    def _on_publish(
        self, _client: Client, _data: Any, number: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._happened.append(Taken(number, reason.value))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # to be acknowledged, or it would come again for ever
        self._happened.append(Heard(message.mid, message.qos, topic, bytes(message.payload)))

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._lose(reason.value, f"the broker said: {reason}", closed=True)
        else:
            self._lose(None, "", closed="Keep alive" not in str(reason))

    def _lose(self, code: int | None, sentence: str, *, closed: bool) -> None:
        if self._over:
            return
        self._over = True
        said = sentence or self._said.text or (MUTE if closed else "the broker fell silent")
        self._happened.append(Lost(said, code, closed))


class _OfErrors(logging.Logger):
    """paho logs two lines for each event that nobody reads: they end here, before anything is asked about them."""

    def log(self, level: int, msg: object, *args: object, **_: Any) -> None:
        if level >= logging.ERROR:
            super().log(level, msg, *args)


class _LastWords(logging.Handler):
    """Keeps the last error that paho logged: its callbacks do not tell why a socket failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""
        self.logger = _OfErrors("paho", logging.ERROR)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def _properties(packet: int, **values: Any) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


_PACKED: Final[bytes] = _properties(PacketTypes.PUBLISH, ContentType="application/cloudevents+json").pack()  # type: ignore[no-untyped-call]


class _EventProperties(Properties):
    """What goes with each event, packed once: paho takes as long for it as for all the rest of a packet."""

    def __init__(self) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        return _PACKED


def _no_delay(_client: Client, _data: Any, opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _nothing(_client: Client, _data: Any, _socket: Any) -> None:
    """Nothing."""
