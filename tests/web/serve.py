"""``python -m tests.web.serve --state DIR [--scans N]``: a real agent with its page, for tests and to look at."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from agent.access.tokens import FOLDER, Role, Tokens
from agent.carrying import Finished
from agent.config import load_config
from agent.daemon import Daemon
from agent.demo.render import render_lesion
from engines.bundle import demo_bundle_folder

SETTINGS = """\
[device]
id = "device-1"
clinic_id = "clinic-1"
state_dir = "state"

[[dermoscope]]
id = "scope-1"
folder = "scope-1"

[inference]
bundle = {bundle}
require_trusted = false
ladder = ["cpu"]
deadline_s = 3.0

[api]
port = {port}
{more}
"""
OFTEN = "requests_per_s = 10000\n"
"""Tests ask, and are refused, as often as no clinic does."""


@dataclass(frozen=True)
class Served:
    """A running agent."""

    daemon: Daemon
    address: str
    """``http://127.0.0.1:PORT``, without a slash at the end."""
    folder: Path
    """The dermoscope's."""
    state_dir: Path

    def token(self, role: Role = Role.CLINICIAN, name: str = "Dr Test") -> str:
        """A new token's secret."""
        return Tokens(self.state_dir / FOLDER).create(name, role).secret

    def drop(self, name: str, seed: int = 1, width: int = 1024, height: int = 768, about: object = None) -> Path:
        """Let a synthetic capture appear in the folder, whole, with its sidecar before it."""
        return drop(self.folder, name, seed, size=(width, height), about=about)


def drop(folder: Path, name: str, seed: int = 1, *, size: tuple[int, int] = (1024, 768), about: object = None) -> Path:
    """See `Served.drop`."""
    bgr = cv2.cvtColor(render_lesion(seed, *size), cv2.COLOR_RGB2BGR)
    path = folder / name
    if about is not None:
        path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
    temporary = folder / f".{name}.part"
    temporary.write_bytes(bytes(cv2.imencode(path.suffix, bgr)[1]))
    return temporary.rename(path)


def write_settings(root: Path, *, port: int = 0, more: str = "") -> Path:
    """An ``agent.toml`` in ``root``, and its dermoscope's folder."""
    (root / "scope-1").mkdir(parents=True, exist_ok=True)
    path = root / "agent.toml"
    bundle = json.dumps(str(demo_bundle_folder()))
    more = more if "requests_per_s" in more else OFTEN + more
    path.write_text(SETTINGS.format(bundle=bundle, port=port, more=more), encoding="utf-8")
    return path


@contextmanager
def serving(
    root: Path, *, port: int = 0, more: str = "", on_finished: Callable[[Finished], None] | None = None
) -> Iterator[Served]:
    """An agent in this process, which answers when the body begins."""
    config = load_config(write_settings(root, port=port, more=more))
    daemon = Daemon(config, on_finished)
    daemon.start()
    try:
        assert daemon.web_address is not None
        yield Served(daemon, daemon.web_address.rstrip("/"), root / "scope-1", config.device.state_dir)
    finally:
        daemon.stop()


def main() -> int:
    """Serve until SIGTERM or SIGINT; each line ``drop NAME`` on the standard input lets a capture appear."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="for everything that is written")
    parser.add_argument("--scans", type=int, default=0, metavar="N", help="synthetic captures to begin with")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--seed", type=int, default=1, help="of the first capture; the others count on")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with serving(arguments.state, port=arguments.port) as served:
        about = {"address": served.address, "token": served.token(), "folder": str(served.folder)}
        print(json.dumps(about), flush=True)
        for number in range(arguments.scans):
            seed = arguments.seed + number
            served.drop(f"lesion-{seed:04d}.jpg", seed, about={"patient_id": f"P-{seed % 7:03d}", "body_site": "back"})
        threading.Thread(target=_obey, args=(served,), daemon=True).start()
        stop.wait()
    return 0


def _obey(served: Served) -> None:
    for count, line in enumerate(sys.stdin):
        word, _, name = line.strip().partition(" ")
        if word == "drop":
            served.drop(name or f"more-{count}.jpg", 1000 + count)


if __name__ == "__main__":
    sys.exit(main())
