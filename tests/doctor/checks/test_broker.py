"""The broker: a real mosquitto, and the ways in which it cannot be reached."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.doctor.checks import broker as check
from agent.doctor.checks.broker import CHECK
from agent.doctor.finding import Outcome
from tests.doctor.conftest import look
from tests.fakes.broker import Broker, free_port
from tests.fakes.certificates import CertificateAuthority


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "pki")


@pytest.fixture
def mosquitto(tmp_path: Path, authority: CertificateAuthority):
    broker = Broker(tmp_path / "broker", authority).start()
    yield broker
    broker.stop()


def mqtt(port: int, more: str = "", host: str = "127.0.0.1") -> tuple[str, str]:
    return ("[store]", f'[mqtt]\nhost = "{host}"\nport = {port}\n{more}\n\n[store]')


def tls(ca: Path, issued) -> str:
    return f'ca = "{ca}"\ncert = "{issued.cert}"\nkey = "{issued.key}"'


def test_a_broker_that_takes_us_and_hears_no_mqtt(make_place, mosquitto: Broker, authority) -> None:
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)
    place = make_place(mqtt(mosquitto.port, tls(authority.cert, authority.device("device-1"))))
    told = look(CHECK, place)
    assert "ends in 29 days" in told.one(Outcome.WARNING).sentence, "the fake's own certificate is for 30 days"
    assert "device-1" not in mosquitto.log.read_text(), "a second client of this id would throw the agent out (F17)"


def test_a_broker_without_tls(make_place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert look(CHECK, make_place(mqtt(server.getsockname()[1]))).ok


def test_a_broker_that_refuses_our_certificate(make_place, mosquitto: Broker, authority, tmp_path: Path) -> None:
    stranger = CertificateAuthority(tmp_path / "stranger").device("device-1")
    told = look(CHECK, make_place(mqtt(mosquitto.port, tls(authority.cert, stranger))))
    assert "ended the handshake" in told.one(Outcome.FAILED).sentence
    expired = authority.device("device-1", expired=True)
    told = look(CHECK, make_place(mqtt(mosquitto.port, tls(authority.cert, expired))))
    assert "has expired" in told.one(Outcome.FAILED).sentence


def test_a_broker_that_is_another_one(make_place, mosquitto: Broker, authority, tmp_path: Path) -> None:
    other = CertificateAuthority(tmp_path / "other", "another CA")
    told = look(CHECK, make_place(mqtt(mosquitto.port, tls(other.cert, authority.device("device-1")))))
    assert "certificate is not believed" in told.one(Outcome.FAILED).sentence


def test_nobody_listens_and_no_such_name(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    told = look(CHECK, make_place(mqtt(free_port())))
    assert "Nothing is lost" in told.one(Outcome.FAILED, "cannot be reached").sentence
    place = make_place(mqtt(1883, "allow_insecure = true", host="broker.invalid"))

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert look(CHECK, place).one(Outcome.FAILED, "broker.invalid")


def test_a_black_hole(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # the queue is full: what comes then is not answered
            one.setblocking(False)
            one.connect_ex(address)
        told = look(CHECK, make_place(mqtt(address[1])))
        for one in waiting:
            one.close()
    finding = told.one(Outcome.FAILED, "does not answer")
    assert f"TCP port {address[1]}" in finding.remedy


def test_files_that_cannot_be_used(make_place, authority, tmp_path: Path) -> None:
    place = make_place(mqtt(1, tls(tmp_path / "none.pem", authority.device("device-1"))))
    assert look(CHECK, place).one(Outcome.FAILED, "none.pem")
