"""What bad and busy clients of the local API cost the folders' captures: ``python -m benchmarks.flood``.

Captures of a ViT-B/16 in peace and under each flood in turn, in one run; the clients are a process of their own at the
lowest priority, as in life they are on another machine. What counts is the time from the file's close to the answer's
commit: a request that is being answered when a capture comes is not broken off, so valid requests cost up to its rest.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.api import free_port
from benchmarks.captures import JPEG_XGA, distinct
from benchmarks.pipeline import machine
from benchmarks.process import AgentProcess, write_config
from build.random_bundle import RandomBundle, make

BLOCK: Final = 6
"""Captures in peace, and then under a flood."""
SLOW, LARGE, BAD, VALID = 200, 4, 8, 8
"""Connections of each flood."""


def head(token: str, length: int) -> bytes:
    """A request's head that promises so many bytes of JSON."""
    lines = ("POST /api/v1/analyze HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}")
    return "\r\n".join((*lines, "Content-Type: application/json", f"Content-Length: {length}", "", "")).encode()


def slow(port: int, token: str) -> None:
    """Bodies that come byte by byte, on many connections."""
    connections: list[socket.socket] = []
    while True:
        while len(connections) < SLOW:
            connection = socket.create_connection(("127.0.0.1", port), 10)
            connection.sendall(head(token, 30 << 20))
            connections.append(connection)
        for connection in list(connections):
            try:
                connection.sendall(b"x")
            except OSError:
                connections.remove(connection)
        time.sleep(0.5)


def large(port: int, token: str) -> None:
    """A gigabyte is promised and sent, whatever is answered."""
    while True:
        with closing(socket.create_connection(("127.0.0.1", port), 10)) as connection, suppress(OSError):
            connection.sendall(head(token, 1 << 30))
            while connection.send(b"x" * 65536):
                pass


def repeat(port: int, token: str, bodies: Callable[[], bytes]) -> None:
    """One request after the other, as fast as they are answered."""
    while True:
        with closing(socket.create_connection(("127.0.0.1", port), 60)) as connection, suppress(OSError):
            while True:
                body = bodies()
                connection.sendall(head(token, len(body)) + body)
                if not connection.recv(65536):
                    break


def client(kind: str, port: int, token: str) -> None:
    """The process that floods, until it is killed."""
    os.nice(19)

    def asking(data: bytes) -> bytes:
        about = {"clinic_id": "bench", "patient_id": "P-1"}
        return json.dumps({"image": base64.b64encode(data).decode(), **about}).encode()

    zipped = asking(b"PK\x03\x04" + bytes(200_000))
    pictures = [asking(data) for data in itertools.islice(distinct(JPEG_XGA), 400 if kind == "valid" else 0)]
    number = itertools.count()
    works: dict[str, tuple[int, Callable[[], None]]] = {
        "slow": (1, lambda: slow(port, token)),
        "large": (LARGE, lambda: large(port, token)),
        "bad": (BAD, lambda: repeat(port, token, lambda: zipped)),
        "valid": (VALID, lambda: repeat(port, token, lambda: pictures[next(number) % len(pictures)])),
    }
    count, work = works[kind]
    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    print("floods", flush=True)
    threading.Event().wait()


@contextmanager
def flood(kind: str, port: int, token: str) -> Iterator[None]:
    """A flood, while the context lasts."""
    command = [sys.executable, "-m", "benchmarks.flood", "--client", kind, str(port), token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            if process.stdout is None or process.stdout.readline() != b"floods\n":
                raise RuntimeError(f"the flood {kind!r} did not begin")
            time.sleep(1.0)
            yield
        finally:
            process.kill()


class Folder:
    """Drops captures into the agent's folder and looks up when they were answered."""

    def __init__(self, root: Path) -> None:
        self._folder, self._database = root / "scope-0", root / "state" / "dermascan.db"
        self._files, self._number = distinct(JPEG_XGA), 0

    def capture(self) -> float:
        """One capture: milliseconds from its close to its commit (by the wall clock, to the millisecond)."""
        self._number += 1
        path = self._folder / f"capture-{self._number}.jpg"
        path.write_bytes(next(self._files))
        closed = time.time()
        sql = "SELECT state, finished_at FROM scans WHERE path = ? AND state <> 'received'"
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as db:
            end = time.monotonic() + 60
            while (row := db.execute(sql, (str(path),)).fetchone()) is None:
                if time.monotonic() > end:
                    raise TimeoutError(f"{path.name} was not answered")
                time.sleep(0.02)
        if row[0] != "answered":
            raise RuntimeError(f"{path.name}: {row[0]}; the measurement would be of nothing")
        return (datetime.fromisoformat(row[1].replace("Z", "+00:00")).timestamp() - closed) * 1e3

    def block(self) -> list[float]:
        """Captures with pauses of a busy practice between them."""
        found = []
        for _ in range(BLOCK):
            time.sleep(random.uniform(0.1, 0.4))
            found.append(self.capture())
        return found


FLOODS: Final = {
    "slow": f"{SLOW} connections that send a byte each half second",
    "large": f"{LARGE} that promise and send a gigabyte, again and again",
    "bad": f"{BAD} that send a ZIP called PNG as fast as it is refused",
    "valid": f"{VALID} that send valid pictures as fast as they are answered",
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--client", nargs=3, metavar=("KIND", "PORT", "TOKEN"), help="be the flood (for itself)")
    arguments = parser.parse_args()
    if arguments.client:
        kind, port, token = arguments.client
        client(kind, int(port), token)
    with tempfile.TemporaryDirectory() as name:
        root, bundle = Path(name), Path(name, "bundle")
        make(RandomBundle("vit_b_16", bundle))
        port = free_port()
        config = write_config(root, bundle, 1, f"\n[api]\nport = {port}\n")
        create = [sys.executable, "-m", "agent.cli", "token", "create", "--config", str(config)]
        made = subprocess.run(
            [*create, "--role", "integration", "--name", "bench"], check=True, capture_output=True, text=True
        )
        token = made.stdout.strip()
        peace: dict[str, list[float]] = {kind: [] for kind in FLOODS}
        flooded: dict[str, list[float]] = {kind: [] for kind in FLOODS}
        with AgentProcess(config) as agent:
            agent.wait_for("agent.ready", 120)
            folder = Folder(root)
            folder.block()
            for number in range(arguments.rounds):
                print(f"round {number + 1} of {arguments.rounds} ...", file=sys.stderr)
                for kind in FLOODS:
                    peace[kind] += folder.block()
                    with flood(kind, port, token):
                        flooded[kind] += folder.block()
                    time.sleep(2.0)
    print(f"{machine()}; ViT-B/16, 1024×768 JPEG, {arguments.rounds * BLOCK} captures each\n")
    print("| clients | p50 in peace, under it | ratio | p95 in peace, under it | longest |\n|---|---|---|---|---|")
    for kind, said in FLOODS.items():
        (calm50, calm95), (busy50, busy95) = (np.percentile(ms, [50, 95]) for ms in (peace[kind], flooded[kind]))
        print(
            f"| {said} | {calm50:.0f}, {busy50:.0f} ms | {busy50 / calm50:.2f} | {calm95:.0f}, {busy95:.0f} ms "
            f"| {max(flooded[kind]):.0f} ms |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
