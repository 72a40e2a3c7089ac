"""The demonstration's MQTT broker: iotcore (rumqttd), in a process of its own, heard on this machine only."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from agent.demo.child import ChildFailed, end, last_words, start

LOOPBACK: Final = "127.0.0.1"
READY_S: Final = 20.0
_LISTEN: Final = "0A"
_TRIES: Final = 5
_LOOK_S: Final = 0.02
_LARGEST: Final = 256 * 1024
"""Bytes of a message; what the usual brokers take. rumqttd's own default is less than an answer may have."""
_SETTINGS: Final = """\
id = 0

[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.demo]
name = "demo"
listen = {listen}
next_connection_delay_ms = 1

[v5.demo.connections]
connection_timeout_ms = 60000
max_payload_size = {largest}
max_inflight_count = 100
"""


def is_installed() -> bool:
    """Whether the embedded broker is here; it has no wheels for every platform."""
    return importlib.util.find_spec("iotcore") is not None


class Broker:
    """Owns the broker's process. Several demonstrations side by side each have one, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        """Start it, and wait until it listens; its settings and log lie in ``folder``.

        Raises:
            ChildFailed: it does not come to listen.
        """
        self.port = 0
        self._settings, self._log = folder / "broker.toml", folder / "broker.log"
        self.process = self._start()

    def stop(self) -> None:
        """End it."""
        end(self.process)

    def _start(self) -> subprocess.Popen[bytes]:
        for _ in range(_TRIES):
            self.port = _free_port()
            listen = json.dumps(f"{LOOPBACK}:{self.port}")
            self._settings.write_text(_SETTINGS.format(listen=listen, largest=_LARGEST), encoding="utf-8")
            # Anything less than CRITICAL, and rumqttd writes a line for each packet.
            command = ["-m", "iotcore", "--config", str(self._settings), "--log-level", "CRITICAL"]
            process = start(command, self._log)
            if self._listens(process):
                return process
            end(process)
        raise ChildFailed(f"the broker does not listen: {last_words(self._log)}")

    def _listens(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the process itself listens: that the port answers is not enough, it may be somebody else's."""
        until = time.monotonic() + READY_S
        while process.poll() is None and time.monotonic() < until:
            if self.port in listening_ports(process.pid):
                return True
            time.sleep(_LOOK_S)
        return False


def listening_ports(pid: int) -> dict[int, str]:
    """The TCP ports that a process listens on, with their addresses in the kernel's spelling; none where it is gone."""
    try:
        held = {str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir()}
        rows = [row.split() for name in ("tcp", "tcp6") for row in _sockets(pid, name)]
    except OSError:
        return {}
    found = (row[1].split(":") for row in rows if row[3] == _LISTEN and f"socket:[{row[9]}]" in held)
    return {int(port, 16): address for address, port in found}


def _sockets(pid: int, name: str) -> list[str]:
    table = Path(f"/proc/{pid}/net/{name}")
    return table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else []


def _free_port() -> int:
    """A port that nobody has now; another may be quicker, then another port is tried."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
