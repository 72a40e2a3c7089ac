"""The whole agent killed (SIGKILL) at random moments, again and again: ``python -m benchmarks.kills`` (F11).

Half of the deaths come while it starts, half while it works; captures come all the while. Whatever is shown between two
lives is noted. At the end every capture must have one answer, the right one, the one that was shown first.

Exit status: 0 it is so, 1 it is not.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.captures import Kind, distinct
from benchmarks.process import write_config
from benchmarks.soak.books import OWN_FAULTS, SAME
from benchmarks.soak.figures import percentiles
from benchmarks.soak.scene import Agent
from engines.bundle import demo_bundle_folder

START_S: Final = 2.0
"""Deaths while it starts come within so many seconds."""
WORK_S: Final = 1.5
"""Deaths while it works: so long after it was ready."""
READY_S: Final = 60.0
FINISH_S: Final = 600.0
MOTIFS: Final = 8


@dataclass
class Killed:
    """What became of it."""

    kills: int
    captures: int
    lost: int = 0
    """Without an end, or without their files."""
    twice: int = 0
    """With more than one scan, or more than one event."""
    wrong: int = 0
    """With another answer than the engine gives, or another than was shown first."""
    refused: int = 0
    """At whose analysis the agent died three times: refused, as is meant."""
    shown: int = 0
    """Answers that were seen between two lives."""
    ready_s: list[float] = field(default_factory=list)

    @property
    def as_it_has_to_be(self) -> bool:
        """Nothing lost, twice or wrong."""
        return not (self.lost or self.twice or self.wrong)

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.kills} kills, {self.captures} captures: {self.lost} lost, {self.twice} answered twice, "
            f"{self.wrong} wrong answers shown ({self.shown} looked at between two lives), {self.refused} refused "
            f"after three deaths in their analysis; start to ready, s: {percentiles(self.ready_s)} "
            f"({len(self.ready_s)} starts)"
        )


def run(kills: int, folder: Path, seed: int = 0, tell: Callable[[str], None] = lambda _: None) -> Killed:
    """Do it; everything lies in ``folder``.

    Raises:
        TimeoutError: an agent that nobody kills does not become ready.
    """
    rng, pictures = random.Random(seed), _pictures()
    config = write_config(folder, demo_bundle_folder(), 1)
    scope, state = folder / "scope-0", folder / "state"
    agent, motifs, seen = Agent(config, folder / "logs"), dict[str, str](), dict[str, Any]()
    try:
        for number in range(kills):
            for _ in range(rng.choice((0, 1, 1, 2))):
                name, motif, data = next(pictures)
                (scope / f".{name}").write_bytes(data)
                (scope / f".{name}").rename(scope / name)
                motifs[name] = motif
            agent.start()
            if rng.random() < 0.5:
                _watch(agent, rng.uniform(0.0, START_S))
            else:
                _until_ready(agent)
                _watch(agent, rng.uniform(0.0, WORK_S))
            agent.kill()
            _look(state, seen)
            tell(f"{number + 1} of {kills}, {len(seen)} answers seen")
        agent.start()
        _until_ready(agent)
        end = time.monotonic() + FINISH_S
        while _filed(state) < len(motifs) and time.monotonic() < end:
            time.sleep(0.1)
        agent.stop()
    finally:
        agent.kill()
    return _books(folder, motifs, seen, Killed(kills, len(motifs), ready_s=list(agent.ready_s.values())))


def _pictures() -> Iterator[tuple[str, str, bytes]]:
    """Name, motif and bytes; no two have the same bytes, and those of a motif the same answer."""
    streams = [distinct(Kind("small", 320, 240, ".jpg"), seed) for seed in range(MOTIFS)]
    number = 0
    while True:
        motif = number % MOTIFS
        yield f"capture-{number}.jpg", f"motif-{motif}", next(streams[motif])
        number += 1


def _watch(agent: Agent, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        agent.look()
        time.sleep(min(0.02, left))


def _until_ready(agent: Agent) -> None:
    end = time.monotonic() + READY_S
    while agent.life.number not in agent.ready_s:
        agent.look()
        if not agent.alive or time.monotonic() > end:
            raise TimeoutError(f"the agent does not become ready: {agent.life.log.read_text()[-2000:]}")
        time.sleep(0.02)


def _look(state: Path, seen: dict[str, Any]) -> None:
    """Note what is shown for the first time."""
    for path in (state / "results").glob("*.json"):
        if path.stem not in seen:
            seen[path.stem] = json.loads(path.read_bytes()).get("diagnosis")


def _filed(state: Path) -> int:
    with closing(sqlite3.connect(f"file:{state / 'dermascan.db'}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM scans WHERE files_written = 1").fetchone()[0])


def _books(folder: Path, motifs: dict[str, str], seen: dict[str, Any], killed: Killed) -> Killed:
    state, right = folder / "state", _right(folder)
    with closing(sqlite3.connect(f"file:{state / 'dermascan.db'}?mode=ro", uri=True)) as connection:
        scans = connection.execute("SELECT scan_id, path, state, reason FROM scans").fetchall()
        events = Counter(row[0] for row in connection.execute("SELECT scan_id FROM outbox WHERE type LIKE '%result%'"))
    by_name = Counter(Path(path).name for _, path, _, _ in scans)
    killed.lost += sum(by_name[name] == 0 for name in motifs)
    killed.twice += sum(count > 1 for count in (*by_name.values(), *events.values()))
    killed.shown = len(seen)
    for scan_id, path, ended, reason in scans:
        file = state / "results" / f"{scan_id}.json"
        killed.lost += ended == "received" or not file.exists() or events[scan_id] == 0
        if ended == "rejected":
            killed.refused += reason in OWN_FAULTS
            killed.wrong += reason not in OWN_FAULTS
        if ended != "answered" or not file.exists():
            continue
        said, expected = json.loads(file.read_bytes())["diagnosis"], right[motifs[Path(path).name]]
        near = all(abs(said["all_classes"][name] - value) < SAME for name, value in expected.items())
        killed.wrong += not near or seen.get(scan_id, said) != said
        killed.lost += not file.with_suffix(".png").exists()
    return killed


def _right(folder: Path) -> dict[str, dict[str, float]]:
    """What the engine says of each motif when nobody is killed."""
    files = {}
    (folder / "motifs").mkdir()
    for (_, motif, data), _ in zip(_pictures(), range(MOTIFS), strict=False):
        path = folder / "motifs" / f"{motif}.jpg"
        path.write_bytes(data)
        files[str(path)] = motif
    command = [sys.executable, "-m", "agent.cli", "analyze", "--json", *files]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    return {files[line["path"]]: line["diagnosis"]["all_classes"] for line in lines}


def main() -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there, and leave everything there")
    arguments = parser.parse_args()

    def tell(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="dermascan-kills-") as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        killed = run(arguments.kills, folder, arguments.seed, tell)
    print(killed)
    return 0 if killed.as_it_has_to_be else 1


if __name__ == "__main__":
    sys.exit(main())
