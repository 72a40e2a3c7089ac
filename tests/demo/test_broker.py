"""The embedded broker as a process: where it listens, and that it never outlives its demonstration."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.demo import broker as broker_module
from agent.demo.broker import Broker, is_installed, listening_ports
from agent.demo.child import ChildFailed, start

LOOPBACK = "0100007F"
"""127.0.0.1 in the kernel's spelling."""

installed = pytest.mark.skipif(not is_installed(), reason="iotcore, the embedded broker, is not installed here")


def gone(pid, timeout_s=10.0):
    """Whether a process ends; one that nobody has waited for counts as ended."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@installed
def test_it_listens_on_loopback_only_and_two_do_not_collide(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    one, two = (Broker(folder) for folder in folders)
    try:
        assert one.port != two.port
        for broker in (one, two):
            assert listening_ports(broker.process.pid) == {broker.port: LOOPBACK}
    finally:
        one.stop()
        two.stop()
    assert gone(one.process.pid)
    assert gone(two.process.pid)


@installed
def test_a_port_that_another_took_is_not_mistaken_for_ours(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken, free = other.getsockname()[1], broker_module._free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(broker_module, "_free_port", lambda: next(ports))
        monkeypatch.setattr(broker_module, "READY_S", 3.0)
        broker = Broker(tmp_path)
        broker.stop()
    assert broker.port == free


def test_a_broken_broker_is_said_in_its_own_words(tmp_path, monkeypatch):
    fake = tmp_path / "fake" / "iotcore"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text("raise SystemExit('this broker is broken')")
    monkeypatch.setenv("PYTHONPATH", str(fake.parent))
    with pytest.raises(ChildFailed, match="this broker is broken"):
        Broker(tmp_path)


def test_a_child_ends_with_its_parent_however_that_ends(tmp_path):
    """The child hears neither a signal nor a closed pipe: only the kernel can tell it."""
    script = (
        "import pathlib, sys, time; from agent.demo.child import start\n"
        "child = start(['-c', 'import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, {15}); time.sleep(60)'],"
        " pathlib.Path(sys.argv[1]))\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    with parent:
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.send_signal(signal.SIGKILL)
    assert gone(child)


def test_ctrl_c_at_the_terminal_is_not_for_the_child(tmp_path):
    child = start(["-c", "import time; time.sleep(60)"], tmp_path / "log")
    try:
        assert os.getpgid(child.pid) != os.getpgid(0)
    finally:
        child.kill()
        child.wait()
