"""Brokers of other houses for the tests: on free loopback ports, with files of their own, ended by process id."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.broker import Broker, is_installed
from tests.fakes.broker import free_port

_NATS = """\
server_name: test
listen: 127.0.0.1:{own}
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{ listen: 127.0.0.1:{port}, ack_wait: "2s" }}
"""
# What it gave to a connection just when that ended it gives again after this; 30 s where nobody says.


@contextlib.contextmanager
def rumqttd(folder: Path) -> Iterator[int]:
    """rumqttd, embedded by iotcore, with MQTT 5; gives its port."""
    if not is_installed():
        pytest.skip("iotcore is not installed (pip install iotcore; it has no wheels for every platform)")
    broker = Broker(folder)
    try:
        yield broker.port
    finally:
        broker.stop()


@contextlib.contextmanager
def nats(folder: Path) -> Iterator[int]:
    """nats-server with JetStream, which knows MQTT 3.1.1 only; gives its port for MQTT."""
    program = shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")
    if program is None:
        pytest.skip("nats-server is not installed (Debian: apt-get install nats-server)")
    port = free_port()
    config = folder / "nats.conf"
    config.write_text(_NATS.format(own=free_port(), port=port, folder=folder), encoding="utf-8")
    process = subprocess.Popen([program, "-c", str(config), "-l", str(folder / "nats.log")])
    try:
        _wait(process, port, folder / "nats.log")
        yield port
    finally:
        process.terminate()
        process.wait(10.0)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 10.0
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        assert process.poll() is None, log.read_text() if log.exists() else "it ended at once"
        time.sleep(0.02)
    raise AssertionError("it does not listen")
