"""What a request to the local API costs, beside a bare forward pass and beside other servers with the same weights.

``python -m benchmarks.api`` prints one table, measured in one run: all servers are up at once, and each block of
requests goes to each of them in turn. The agent keeps, checks and explains every answer; the others only answer.
LitServe and TorchServe come from their own packages, in a folder that ``benchmarks/peers/setup.sh`` makes.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import torch

from benchmarks.captures import JPEG_XGA, PNG_XGA, Kind, distinct
from benchmarks.peers.answering import THREADS
from benchmarks.process import write_config
from build.export import Answering
from build.random_bundle import RandomBundle, make, random_model
from build.vit import CONFIGS
from engines.bundle import golden_input, load_bundle
from engines.onnx_cpu import open_backend

CLIENTS = (1, 2, 8)
START_S = 60.0
TORCHSERVE = "TorchServe 0.12, TorchScript"


@dataclass
class Server:
    """One that is up; ``seconds`` of each request by number of clients, ``walls`` (requests, seconds) of each block."""

    name: str
    port: int
    path: str
    pid: int
    headers: dict[str, str] = field(default_factory=dict)
    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    walls: dict[tuple[str, int], list[tuple[int, float]]] = field(default_factory=dict)

    def memory_mb(self) -> float:
        """Proportional set size of all its processes, in MB: shared pages are counted once."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        return sum(process.memory_full_info().pss for process in family) / 1e6

    def post(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        """One request; raises where it is not answered."""
        connection.request("POST", self.path, body, {"Content-Type": "application/json", **self.headers})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{self.name}: {answer.status} {text[:300]!r}")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def process(command: Sequence[str], log: Path, **environment: str) -> Iterator[int]:
    """A server in a group of its own, killed with all its children at the end; gives its pid."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield started.pid
    finally:
        children = psutil.Process(started.pid).children(recursive=True)
        os.killpg(started.pid, signal.SIGTERM)
        psutil.wait_procs(children, timeout=20)
        for child in children:
            if child.is_running():
                child.kill()
        started.kill()
        started.wait()


def wait_until(answers: Callable[[], None], what: str, log: Path) -> None:
    """Try until it works; raises with the end of the log where it does not."""
    ends = time.monotonic() + START_S
    while True:
        try:
            return answers()
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            if time.monotonic() > ends:
                tail = log.read_text(errors="replace")[-2000:]
                raise TimeoutError(f"{what} did not answer within {START_S:.0f} s ({error}): {tail}") from error
            time.sleep(0.2)


def open_agent(stack: ExitStack, root: Path, bundle: Path) -> Server:
    """The agent with its API; the token is made by the product's own command."""
    port = free_port()
    config = write_config(root, bundle, 1)
    config.write_text(config.read_text() + f"\n[api]\nport = {port}\nrequests_per_s = 100000.0\n")
    made = [sys.executable, "-m", "agent.cli", "token", "create", "--config", str(config)]
    token = subprocess.run(
        [*made, "--role", "integration", "--name", "benchmark"], check=True, capture_output=True, text=True
    ).stdout.strip()
    command = [sys.executable, "-m", "agent.cli", "run", "--config", str(config)]
    pid = stack.enter_context(process(command, root / "agent.log"))
    headers = {"Authorization": f"Bearer {token}"}
    return Server("DermaScan agent", port, "/api/v1/analyze", pid, headers)


def open_litserve(stack: ExitStack, root: Path, model: Path, peers: Path) -> Server:
    """LitServe, as its documentation starts it."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.litserve_server", str(model), str(port)]
    pid = stack.enter_context(process(command, root / "litserve.log", PYTHONPATH=_path(peers)))
    return Server("LitServe 0.2.19, TorchScript", port, "/api/v1/analyze", pid)


def open_torchserve(stack: ExitStack, root: Path, model: Path, peers: Path) -> Server:
    """TorchServe with one worker and its defaults, but for the threads (as many as the others have)."""
    store, port = root / "store", free_port()
    store.mkdir()
    environment = {"PYTHONPATH": _path(peers), "OMP_NUM_THREADS": str(THREADS), "TEMP": str(root)}
    environment["LOG_LOCATION"] = environment["METRICS_LOCATION"] = str(root / "logs")
    archiver = "from model_archiver.model_packaging import generate_model_archive; generate_model_archive()"
    archive = [sys.executable, "-c", archiver, "--model-name", "lesions", "--version", "1.0"]
    handler = Path(__file__).parent / "peers" / "torchserve_handler.py"
    extra = f"{model / 'model.pt'},{model / 'manifest.json'}"
    subprocess.run(
        [*archive, "--handler", str(handler), "--extra-files", extra, "--export-path", str(store)],
        check=True,
        env={**os.environ, **environment},
    )
    settings = root / "config.properties"
    settings.write_text(
        f"inference_address=http://127.0.0.1:{port}\nmanagement_address=http://127.0.0.1:{free_port()}\n"
        f"metrics_address=http://127.0.0.1:{free_port()}\ndefault_workers_per_model=1\nmax_request_size=33554432\n"
        "disable_token_authorization=true\nenable_envvars_config=false\n"
    )
    jar = peers / "ts" / "frontend" / "model-server.jar"
    command = ["java", f"-Dmodel_server_home={peers}", f"-Djava.io.tmpdir={root}", "-cp", str(jar)]
    command += ["org.pytorch.serve.ModelServer", "--python", sys.executable, "-f", str(settings)]
    command += ["-s", str(store), "-m", "lesions.mar", "-ncs"]
    pid = stack.enter_context(process(command, root / "torchserve.log", **environment))
    return Server(TORCHSERVE, port, "/predictions/lesions", pid)


def _path(peers: Path) -> str:
    return f"{peers}{os.pathsep}{Path(__file__).resolve().parents[1]}"


def save_traced(folder: Path) -> None:
    """The network of the random bundle in ``folder``, traced and frozen, as ``model.pt``."""
    model = Answering(random_model(CONFIGS["vit_b_16"])).eval()
    with torch.inference_mode():
        trace = torch.jit.trace(model, torch.zeros(1, 3, 224, 224))  # type: ignore[no-untyped-call]
        torch.jit.freeze(trace).save(str(folder / "model.pt"))  # type: ignore[no-untyped-call]


def bodies(kind: Kind) -> Iterator[bytes]:
    """Requests as the mission gives them, no two of the same bytes."""
    for data in distinct(kind):
        image = base64.b64encode(data).decode("ascii")
        yield json.dumps({"image": image, "clinic_id": "bench", "patient_id": "P-1"}).encode()


def block(server: Server, requests: Sequence[bytes], clients: int, key: tuple[str, int]) -> None:
    """Send the requests by so many clients, each on a connection of its own, and note the times."""
    waiting = iter(requests)
    lock = threading.Lock()
    seconds: list[float] = []
    failures: list[Exception] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        try:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                started = time.perf_counter()
                server.post(connection, body)
                seconds.append(time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - it is raised where the block was begun
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    server.seconds.setdefault(key, []).extend(seconds)
    server.walls.setdefault(key, []).append((len(requests), time.perf_counter() - started))


def measure(servers: Sequence[Server], bare: Callable[[], object], rounds: int) -> list[float]:
    """All servers in turn, in another order each round; returns the bare forward passes in seconds."""
    passes: list[float] = []
    jpeg, png = bodies(JPEG_XGA), bodies(PNG_XGA)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
        for _ in range(5):
            started = time.perf_counter()
            bare()
            passes.append(time.perf_counter() - started)
        for server in random.sample(list(servers), len(servers)):
            for clients in CLIENTS:
                block(server, [next(jpeg) for _ in range(max(5, 2 * clients))], clients, ("JPEG", clients))
            block(server, [next(png) for _ in range(5)], 1, ("PNG", 1))
    return passes


def _ms(seconds: Sequence[float], percent: float) -> float:
    return float(np.percentile(seconds, percent)) * 1e3


def report(servers: Sequence[Server], passes: Sequence[float], memory: Sequence[float]) -> None:
    """Print the table."""
    bare = statistics.median(passes) * 1e3
    print(
        f"\n{os.cpu_count()} cores, Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, torch "
        f"{torch.__version__}; ViT-B/16 with random weights, 1024×768; bare forward pass p50 {bare:.1f} ms\n"
    )
    print("| server | picture, clients | p50 | p99 | p50 / bare | answers per second |")
    print("|---|---|---|---|---|---|")
    for key in servers[0].seconds:
        for server in servers:
            seconds, walls = server.seconds[key], server.walls[key]
            rate = sum(count for count, _ in walls) / sum(wall for _, wall in walls)
            print(
                f"| {server.name} | {key[0]}, {key[1]} | {_ms(seconds, 50):.1f} ms | {_ms(seconds, 99):.1f} ms "
                f"| {_ms(seconds, 50) / bare:.2f} | {rate:.2f} |"
            )
    print("\n| server | memory of all its processes (PSS) |\n|---|---|")
    for server, mb in zip(servers, memory, strict=True):
        print(f"| {server.name} | {mb:.0f} MB |")


def main() -> int:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="where LitServe and TorchServe lie")
    arguments = parser.parse_args()
    peers = arguments.peers.absolute()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root, bundle = Path(folder), Path(folder, "bundle")
        print("making a randomly initialised ViT-B/16 to measure with ...", file=sys.stderr)
        make(RandomBundle("vit_b_16", bundle))
        model = root / "peer"
        model.mkdir()
        save_traced(model)
        (model / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes())
        servers = [open_agent(stack, root, bundle)]
        if (peers / ".ready").exists():
            servers.append(open_litserve(stack, root, model, peers))
            servers.append(open_torchserve(stack, root, model, peers))
        else:
            print(f"{peers}: run benchmarks/peers/setup.sh {peers} for the other servers", file=sys.stderr)
        requests = bodies(JPEG_XGA)
        for server, log in zip(servers, ("agent", "litserve", "torchserve"), strict=False):
            print(f"waiting for {server.name} ...", file=sys.stderr)
            wait_until(lambda s=server: block(s, [next(requests)], 1, ("warm", 1)), server.name, root / f"{log}.log")  # type: ignore[misc]
            for _ in range(5):
                block(server, [next(requests)], 1, ("warm", 1))
            server.seconds.clear()
            server.walls.clear()
        backend = stack.enter_context(_bare(bundle))
        passes = measure(servers, backend, arguments.rounds)
        report(servers, passes, [server.memory_mb() for server in servers])
    return 0


@contextmanager
def _bare(bundle: Path) -> Iterator[Callable[[], object]]:
    backend = open_backend(bundle)
    images = golden_input(load_bundle(bundle, check_hashes=False))
    for _ in range(3):
        backend.run(images)
    try:
        yield lambda: backend.run(images)
    finally:
        backend.close()


if __name__ == "__main__":
    sys.exit(main())
