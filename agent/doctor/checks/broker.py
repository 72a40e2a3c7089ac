"""The broker: whether it can be reached, is who it should be, and takes the device's certificate.

No MQTT is spoken: a second client of the same id would throw the agent's own connection out (F17).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Final

from agent.config import MqttSection
from agent.doctor.checks.certificates import SOON
from agent.doctor.finding import Check, Finding, failed, ok, skipped, warning
from agent.doctor.patience import TooLong, within
from agent.doctor.place import Place
from agent.sync.tls import CannotConnect, open_context, read_password, refusal_hint

CONNECT_S: Final = 6.0
_ALERT_S: Final = 1.0
"""TLS 1.3 tells only after the handshake that it does not take a certificate."""
_MEANWHILE: Final = "Nothing is lost: events wait in the outbox."


def look(place: Place) -> Iterator[Finding]:
    """Name, connection, certificates; one after the other."""
    mqtt = place.config.mqtt
    if mqtt is None:
        yield skipped("The settings name no broker: events wait in the outbox.")
        return
    try:
        context = open_context(mqtt, place.config.device.id)
        read_password(mqtt)
    except CannotConnect as error:
        yield failed(f"The broker cannot be spoken to: {error}.", "see 'Certificates' and 'Keys and tokens'")
        return
    where = f"{mqtt.host}, port {mqtt.port}"
    try:
        within(CONNECT_S, lambda: socket.getaddrinfo(mqtt.host, mqtt.port, type=socket.SOCK_STREAM))
        connection = socket.create_connection((mqtt.host, mqtt.port), CONNECT_S)
    except socket.gaierror:
        yield failed(
            f"The name of the broker is not known here: {mqtt.host}. {_MEANWHILE}",
            "see to the network's cable and its name server (resolvectl status); then to [mqtt] host",
        )
        return
    except (TooLong, TimeoutError):
        yield failed(
            f"The broker does not answer: {where}. {_MEANWHILE}",
            f"ask who runs the clinic's network to let this device out to TCP port {mqtt.port}",
        )
        return
    except OSError as error:
        yield failed(
            f"The broker cannot be reached: {where} ({error.strerror or error}). {_MEANWHILE}",
            "see to the network; if other programs reach it, ask who runs the broker",
        )
        return
    with connection:
        if context is None:
            yield ok(f"The broker can be reached: {where} (not encrypted).")
        else:
            yield from _greet(connection, context, mqtt, where, trusted=place.clock_trusted)


def _greet(
    connection: socket.socket, context: ssl.SSLContext, mqtt: MqttSection, where: str, *, trusted: bool
) -> Iterator[Finding]:
    try:
        with context.wrap_socket(connection, server_hostname=mqtt.host) as secured:
            told: Any = secured.getpeercert()
            _wait_for_refusal(secured)
    except ssl.SSLCertVerificationError as error:
        clock = "" if trusted else "; but first set the clock"
        yield failed(
            f"The broker's certificate is not believed ({error.verify_message}). {_MEANWHILE}",
            f"ask who runs the broker whether it changed, and for its CA file ({mqtt.ca}){clock}",
        )
    except (ssl.SSLError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        yield failed(f"The broker ended the handshake ({reason}): {refusal_hint(mqtt)}.", "ask who runs the broker")
    except OSError as error:
        yield failed(
            f"The broker does not speak TLS ({error.strerror or error}): {where}.", "see to [mqtt] host and port"
        )
    else:
        yield from _expiry(told, where)


def _wait_for_refusal(secured: ssl.SSLSocket) -> None:
    """A broker waits for us to speak first: silence is consent."""
    secured.settimeout(_ALERT_S)
    try:
        if not secured.recv(1):
            raise ConnectionResetError("it closed the connection")
    except TimeoutError:
        return


def _expiry(told: Any, where: str) -> Iterator[Finding]:
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(told["notAfter"]), timezone.utc)
    days = (ends - datetime.now(timezone.utc)).days
    if days < SOON.days:
        yield warning(
            f"The broker can be reached, and its own certificate ends in {days} days ({ends:%d %B %Y}).",
            "tell who runs the broker",
        )
    else:
        yield ok(f"The broker can be reached and takes this device: {where}.")


CHECK = Check(
    name="broker",
    title="Broker",
    looks_at="the broker's name, TCP, TLS both ways, and when its own certificate ends; no MQTT is spoken",
    why="Without it the cloud hears of nothing; what it has not heard of waits in the outbox.",
    look=look,
    limit_s=30.0,
    hung="the network does not answer: see to its cable, then restart the device",
)
