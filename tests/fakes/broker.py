"""A real mosquitto for the tests: on a free loopback port, with files of its own, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.fakes.certificates import CertificateAuthority

ACCESS = """\
user cloud
topic readwrite dermascan/#
topic read $SYS/#

pattern write dermascan/v1/+/%u/results
pattern write dermascan/v1/+/%u/feedback
pattern write dermascan/v1/+/%u/telemetry
pattern write dermascan/v1/+/%u/status
pattern read dermascan/v1/+/%u/ack
pattern read dermascan/v1/+/%u/ground-truth
pattern read dermascan/v1/+/%u/command
"""
"""Each device its own topics, by the name in its certificate."""


def mosquitto_path() -> str:
    """The broker's program; skips the test where there is none."""
    found = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if found is None:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A mosquitto that can be killed and started again with what it kept.

    Args:
        folder: for its files.
        ca: with one: mutual TLS, access by certificate name. Without: plain and anonymous.
        settings: more lines of ``mosquitto.conf``; ``acl_file`` here takes the place of the usual one.
        port: to listen on; a free one where None.
        host: the address to listen on.
        within: words of a command that runs it in another place, a network namespace; ``host`` is there.
    """

    def __init__(
        self,
        folder: Path,
        ca: CertificateAuthority | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        self.host, self.within = host, tuple(within)
        self._program = mosquitto_path()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "mosquitto.log"
        lines = {
            "persistence": "true",
            "persistence_location": f"{folder}/",
            "autosave_on_changes": "true",
            "autosave_interval": "1",
            "set_tcp_nodelay": "true",
            "log_dest": f"file {self.log}",
            "user": pwd.getpwuid(os.getuid()).pw_name,  # or it drops to a user that may not read these files
        }
        if ca is None:
            lines["allow_anonymous"] = "true"
        else:
            server = ca.server(addresses=(host,))
            access = folder / "access"
            access.write_text(ACCESS, encoding="utf-8")
            lines["acl_file"] = str(access)
        lines |= settings or {}
        listener = [f"listener {self.port} {host}"]
        if ca is not None:
            listener += [
                f"cafile {ca.cert}",
                f"certfile {server.cert}",
                f"keyfile {server.key}",
                "require_certificate true",
                "use_identity_as_username true",
                "use_username_as_clientid true",
                "tls_version tlsv1.2",
            ]
        self._config = folder / "mosquitto.conf"
        words = [f"{key} {value}" for key, value in lines.items()]
        self._config.write_text("\n".join([*words, *listener]) + "\n", encoding="utf-8")

    def start(self) -> Broker:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            [*self.within, self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10.0
        while time.monotonic() < until:
            assert self._process.poll() is None, self.log.read_text() if self.log.exists() else "it ended at once"
            if self._listens():
                return self
            time.sleep(0.01)
        raise AssertionError("mosquitto does not listen")

    def _listens(self) -> bool:
        if self.within:  # it cannot be reached from here
            probe = f"import socket; socket.create_connection(({self.host!r}, {self.port}), 1.0)"
            command = [*self.within, sys.executable, "-c", probe]
            return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1.0):
            return True
        return False

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10.0)
        self._process = None

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5.0)
            self._process = None
