"""How the agent fares during a soak, sampled from outside: memory, descriptors, threads, the log's size, latency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from benchmarks.memory import slope
from benchmarks.soak.scene import SoakScene

WARM_UP_S: Final = 60.0
"""Of a life, in which memory grows to what it will be."""
PERIOD_S: Final = 600.0
"""Of the table that shows a life whole, its warming up included."""
LONG_S: Final = 1200.0
"""Shorter lives are not judged: a few MB more or less look like a slope."""
MOST_PER_HOUR: Final = {"agent_mb": 3.0, "descriptors": 1.0, "of_database": 1.0, "threads": 1.0}
"""What may be above zero beyond the noise, and mean nothing."""


@dataclass(frozen=True)
class Sample:
    """One look."""

    at: float
    life: int
    agent_mb: float
    worker_mb: float | None
    descriptors: int
    """All but those of the database file itself."""
    of_database: int
    """Those. While one connection of a process has a lock, SQLite keeps what others that are closed had open, and takes
    it again for the next: as many as were ever open at once (its ``os_unix.c``, "POSIX advisory locks"). A connection
    that is not closed shows among the other descriptors, by its write-ahead log."""
    threads: int
    wal_bytes: int
    log_bytes: int


@dataclass
class Figures:
    """All looks."""

    every_s: float = 1.0
    samples: list[Sample] = field(default_factory=list)
    _next: float = 0.0

    def look(self, scene: SoakScene) -> None:
        """Take a sample where it is time and the agent runs."""
        now = time.monotonic()
        if now < self._next or not scene.agent.alive:
            return
        self._next = now + self.every_s
        with suppress(psutil.Error, OSError):
            agent, worker = psutil.Process(scene.agent.life.pid), scene.agent.worker()
            of_database, descriptors = _descriptors(agent.pid, scene.state / "dermascan.db")
            with agent.oneshot():
                sample = Sample(
                    now,
                    scene.agent.life.number,
                    agent.memory_info().rss / 1e6,
                    None if worker is None else worker.memory_info().rss / 1e6,
                    descriptors,
                    of_database,
                    agent.num_threads(),
                    _size(scene.state / "dermascan.db-wal"),
                    _size(scene.agent.life.log),
                )
            if sample.agent_mb > 0:
                self.samples.append(sample)

    def longest_life(self) -> list[Sample]:
        """The samples of the life with the most of them, its warming up left out."""
        longest = self._longest()
        return [sample for sample in longest if sample.at - longest[0].at >= WARM_UP_S]

    def by_period(self) -> list[float]:
        """The agent's mean resident memory in each whole ten minutes of the longest life, in MB."""
        longest = self._longest()
        if not longest:
            return []
        periods: list[list[float]] = [[] for _ in range(int((longest[-1].at - longest[0].at) / PERIOD_S) + 1)]
        for sample in longest:
            periods[int((sample.at - longest[0].at) / PERIOD_S)].append(sample.agent_mb)
        return [float(np.mean(values)) for values in periods[:-1]]

    def _longest(self) -> list[Sample]:
        lives: dict[int, list[Sample]] = {}
        for sample in self.samples:
            lives.setdefault(sample.life, []).append(sample)
        return max(lives.values(), key=len, default=[])

    def growth(self) -> list[str]:
        """What grows over the longest life, in words; nothing where no life was long enough to tell."""
        life = self.longest_life()
        if len(life) * self.every_s < LONG_S:
            return []
        found = {name: trend([float(getattr(sample, name)) for sample in life], self.every_s) for name in MOST_PER_HOUR}
        return [
            f"{name} grows: {one}"
            for name, one in found.items()
            if one is not None and one.per_hour - one.half > MOST_PER_HOUR[name]
        ]


def _descriptors(pid: int, database: Path) -> tuple[int, int]:
    """How many of the database file itself a process has, and how many others."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(str(link.readlink()))
    of_database = names.count(str(database.resolve()))
    return of_database, len(names) - of_database


@dataclass(frozen=True)
class Trend:
    """A slope with its 95 % confidence interval."""

    per_hour: float
    half: float
    samples: int

    def __str__(self) -> str:
        """In words."""
        return f"{self.per_hour:+.2f} ± {self.half:.2f} per hour ({self.samples} samples)"


def trend(values: Sequence[float], every_s: float) -> Trend | None:
    """Of evenly spaced samples; None where there are too few of them to tell."""
    if len(values) < 60:
        return None
    rate, half = slope(list(values), 1)  # thousandths of the unit per sample
    per_hour = 3600.0 / every_s / 1e3
    return Trend(rate * per_hour, half * per_hour, len(values))


def percentiles(values: Sequence[float]) -> str:
    """p50, p95 and the largest, in words."""
    if not values:
        return "none"
    p50, p95 = np.percentile(values, [50, 95])
    return f"p50 {p50:.2f}, p95 {p95:.2f}, longest {max(values):.2f}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
