"""Who is let in and who is not: mutual TLS and access by certificate name, at a real mosquitto."""

from __future__ import annotations

import logging
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.sync.publisher import Publisher
from agent.sync.state import Phase
from agent.sync.tls import CannotConnect, open_context
from tests.fakes.broker import Broker
from tests.fakes.certificates import CertificateAuthority, Issued
from tests.sync.parts import SENDER, FakeOutbox, SmallCloud, settings, wait_for

Make = Callable[..., Any]


@pytest.fixture
def guarded(make_broker: Make, authority: CertificateAuthority) -> Broker:
    return make_broker(authority)


def _stays_out(sync: Publisher, word: str) -> None:
    wait_for(lambda: sync.counts.attempts >= 2 and sync.state.phase is Phase.WAITING)
    assert sync.counts.connections == 0
    assert word in sync.state.sentence


def test_with_its_certificate_a_device_is_let_in(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    cloud: SmallCloud = make_cloud(guarded.port, authority.cert, authority.device("cloud"))
    event_id = outbox.add()
    sync: Publisher = make_publisher(outbox, settings(guarded.port, authority, authority.device("device-1")))
    wait_for(lambda: outbox.of("acknowledged") == [event_id])
    assert cloud.states() == ["online"]
    assert sync._connection is not None
    opened = sync._connection._client.socket()
    assert isinstance(opened, ssl.SSLSocket)
    assert opened.version() in {"TLSv1.2", "TLSv1.3"}


def test_without_a_certificate_nobody_is_let_in(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make
) -> None:
    outbox.add()
    sync: Publisher = make_publisher(outbox, settings(guarded.port, authority))
    _stays_out(sync, "cert and key are not given")


def test_a_certificate_of_another_ca_is_refused(
    guarded: Broker, authority: CertificateAuthority, tmp_path: Path, outbox: FakeOutbox, make_publisher: Make
) -> None:
    stranger = CertificateAuthority(tmp_path / "stranger", "another CA").device("device-1")
    sync: Publisher = make_publisher(outbox, settings(guarded.port, authority, stranger))
    _stays_out(sync, "issued by a CA that the broker trusts")


def test_an_expired_certificate_is_refused(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make
) -> None:
    sync: Publisher = make_publisher(
        outbox, settings(guarded.port, authority, authority.device("device-1", expired=True))
    )
    _stays_out(sync, "expired")


def test_a_broker_of_another_ca_is_not_believed(
    guarded: Broker, authority: CertificateAuthority, tmp_path: Path, outbox: FakeOutbox, make_publisher: Make
) -> None:
    stranger = CertificateAuthority(tmp_path / "stranger", "another CA")
    sync: Publisher = make_publisher(outbox, settings(guarded.port, stranger, authority.device("device-1")))
    _stays_out(sync, "its certificate is not believed")


def test_a_broker_of_another_name_is_not_believed(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make
) -> None:
    section = settings(guarded.port, authority, authority.device("device-1"), host="127.0.0.2")
    guarded.stop()
    text = guarded._config.read_text().replace(f"listener {guarded.port} 127.0.0.1", f"listener {guarded.port} 0.0.0.0")
    guarded._config.write_text(text)
    guarded.start()
    _stays_out(make_publisher(outbox, section), "its certificate is not believed (IP address mismatch")


def test_another_devices_certificate_is_not_even_tried(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make
) -> None:
    sync: Publisher = make_publisher(outbox, settings(guarded.port, authority, authority.device("device-2")))
    _stays_out(sync, "is the certificate of device-2, and [device] id is device-1")


def test_a_renewed_certificate_needs_no_restart(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make
) -> None:
    old = authority.device("device-1", expired=True)
    sync: Publisher = make_publisher(outbox, settings(guarded.port, authority, old))
    _stays_out(sync, "expired")
    authority.device("device-1")  # in the same place
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)


def test_a_certificate_that_cannot_be_read_says_which_and_why(tmp_path: Path, authority: CertificateAuthority) -> None:
    missing = Issued(tmp_path / "none.pem", tmp_path / "none.key")
    with pytest.raises(CannotConnect, match=r"none\.pem: cannot be used as \[mqtt\] cert \(No such file"):
        open_context(settings(1, authority, missing), "device-1")
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    with pytest.raises(CannotConnect, match=r"rubbish\.pem: cannot be used as \[mqtt\] ca"):
        open_context(settings(1).model_copy(update={"ca": rubbish}), "device-1")


@pytest.mark.requirement("R-SEC-3")
def test_nothing_older_than_tls_1_2(authority: CertificateAuthority) -> None:
    context = open_context(settings(1, authority, authority.device("device-1")), "device-1")
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [entry["subject"] for entry in context.get_ca_certs()] == [((("commonName", "test CA"),),)]  # no other


class Intruder:
    """A device of the same CA with ideas of its own."""

    def __init__(self, port: int, authority: CertificateAuthority, name: str, client_id: str) -> None:
        issued = authority.device(name)
        self.codes: dict[int, int] = {}
        self.granted: list[int] = []
        self.heard: list[str] = []
        self.connected = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.tls_set(str(authority.cert), str(issued.cert), str(issued.key))
        self.client.on_connect = lambda *_: self.connected.set()
        self.client.on_publish = lambda _c, _d, mid, reason, _p: self.codes.update({mid: reason.value})
        self.client.on_subscribe = lambda _c, _d, _m, reasons, _p: self.granted.extend(r.value for r in reasons)
        self.client.on_message = lambda _c, _d, message: self.heard.append(message.topic)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.connected.wait(10.0)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.requirement("R-SEC-4")
def test_another_devices_topics_are_closed(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    cloud: SmallCloud = make_cloud(guarded.port, authority.cert, authority.device("cloud"))
    make_publisher(outbox, settings(guarded.port, authority, authority.device("device-1")))
    intruder = Intruder(guarded.port, authority, "device-2", "device-2")
    try:
        topics = [
            f"dermascan/v1/clinic-1/device-1/{name}" for name in ("results", "feedback", "status", "ack", "command")
        ]
        for topic in topics:
            intruder.client.publish(topic, b"forged", qos=1)
        wait_for(lambda: len(intruder.codes) == len(topics))
        assert set(intruder.codes.values()) == {0x87}
        intruder.client.subscribe([(topic, 1) for topic in topics])
        wait_for(lambda: intruder.granted)
        event_id = outbox.add()
        wait_for(lambda: outbox.of("acknowledged") == [event_id])
        assert intruder.heard == []
        assert cloud.ids() == [event_id]
        assert cloud.states() == ["online"]
    finally:
        intruder.close()


@pytest.mark.requirement("R-SEC-4")
def test_another_devices_client_id_throws_nobody_out(
    guarded: Broker, authority: CertificateAuthority, outbox: FakeOutbox, make_publisher: Make
) -> None:
    sync: Publisher = make_publisher(outbox, settings(guarded.port, authority, authority.device("device-1")))
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)
    intruder = Intruder(guarded.port, authority, "device-2", "device-1")
    try:
        done = intruder.client.publish("dermascan/v1/clinic-1/device-1/results", b"forged", qos=1)
        wait_for(lambda: intruder.codes.get(done.mid) == 0x87)
        assert "as device-2" in guarded.log.read_text()  # the broker goes by the certificate
        assert sync.counts.connections == 1
        assert sync.state.phase is Phase.CONNECTED
    finally:
        intruder.close()


@pytest.mark.requirement("R-SEC-3")
def test_a_plain_connection_to_a_guarded_port_gets_nowhere(
    guarded: Broker, outbox: FakeOutbox, make_publisher: Make
) -> None:
    outbox.add()
    sync: Publisher = make_publisher(outbox, settings(guarded.port))
    wait_for(lambda: sync.counts.attempts >= 3)
    assert sync.counts.connections == 0


def test_a_password_comes_from_its_file_and_is_in_no_log(
    make_broker: Make,
    tmp_path: Path,
    outbox: FakeOutbox,
    make_publisher: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    passwords = tmp_path / "passwords"
    passwords.write_text("device-1:CANARY-PASSWORD\n")
    passwords.chmod(0o600)
    subprocess.run([shutil.which("mosquitto_passwd") or "mosquitto_passwd", "-U", str(passwords)], check=True)
    broker: Broker = make_broker(settings={"password_file": str(passwords), "allow_anonymous": "false"})
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    section = settings(broker.port, username="device-1", password_file=secret)
    sync: Publisher = make_publisher(outbox, section)
    _stays_out(sync, "Not authorized")
    secret.write_text("CANARY-PASSWORD\n")
    wait_for(lambda: sync.state.phase is Phase.CONNECTED)
    assert "CANARY" not in caplog.text
    assert "CANARY" not in broker.log.read_text()


@pytest.mark.fault("F30")
def test_topics_and_client_ids_hold_nothing_but_clinic_and_device(
    broker: Broker, outbox: FakeOutbox, make_publisher: Make, make_cloud: Make
) -> None:
    make_cloud(broker.port)
    event_id = outbox.add()
    make_publisher(outbox, settings(broker.port))
    wait_for(lambda: outbox.of("acknowledged") == [event_id])
    assert f"as {SENDER.device_id} (" in broker.log.read_text()
