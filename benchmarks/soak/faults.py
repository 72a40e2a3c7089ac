"""What befalls the agent during a soak: deaths, hangs, a pulled cable, a full disk, a wrong clock, locks from outside.

All of it is done from the main loop's thread: a fault begins at a random moment and ends by a plan.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from benchmarks.soak.captures import Dermoscope
from benchmarks.soak.scene import SoakScene

RESTART_S: Final = (0.1, 3.0)
"""After a death, as a service manager does."""
BALLAST: Final = "ballast"
Heal = Callable[[], None]


class Faults:
    """The one who breaks things, and mends them.

    Args:
        scene: what there is to break.
        scopes: whose folders may be taken away.
        rng: decides everything.
        every_s: on average, between two faults.
        length: of what goes on for a while, as a share of what is usual.
    """

    def __init__(
        self, scene: SoakScene, scopes: list[Dermoscope], rng: random.Random, every_s: float, length: float = 1.0
    ) -> None:
        self._scene, self._scopes, self._rng, self._every_s = scene, scopes, rng, every_s
        self._length = length
        self._next = time.monotonic() + min(2.0, every_s)
        self._plans: list[tuple[float, int, str, Heal]] = []
        self._numbers = itertools.count()
        self._broken: set[str] = set()
        self._deck: list[str] = []
        self.counts: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}
        """Kinds that there cannot be here, and why."""
        self.log: list[tuple[float, str, float]] = []
        """(monotonic seconds, kind, how long)"""
        if scene.small_disk is not None:
            self.left_out["disk full"] = scene.small_disk
        if scene.no_world is not None:
            self.left_out["clock wrong"] = scene.no_world

    def look(self, *, kill_agent: bool = True) -> None:
        """End what is due, begin what is due; to be called again and again.

        Args:
            kill_agent: whether the agent itself may die now.
        """
        self._agent_lives()
        now = time.monotonic()
        while self._plans and self._plans[0][0] <= now:
            self._end(heapq.heappop(self._plans))
        if now >= self._next:
            self._next = now + self._rng.expovariate(1.0 / self._every_s)
            self._begin(kill_agent=kill_agent)

    def heal(self) -> None:
        """End everything now; what was killed runs again."""
        while self._plans:
            self._end(heapq.heappop(self._plans))
        self._agent_lives()

    def _end(self, plan: tuple[float, int, str, Heal]) -> None:
        _, _, what, heal = plan
        heal()
        self._broken.discard(what)

    def _agent_lives(self) -> None:
        """The agent may end by itself where its disk is full at the start; a service manager begins it again."""
        if not self._scene.agent.alive and "agent" not in self._broken:
            self.counts["the agent ended by itself"] += bool(self._scene.agent.lives)
            self._later("agent", 1.0, self._scene.agent.start)

    def _later(self, what: str, seconds: float, heal: Heal) -> None:
        self._broken.add(what)
        heapq.heappush(self._plans, (time.monotonic() + seconds, next(self._numbers), what, heal))

    def _begin(self, *, kill_agent: bool) -> None:
        kinds: dict[str, tuple[str, Callable[[], float]]] = {
            "agent killed": ("agent", self._kill_agent),
            "agent restarted in order": ("agent", self._restart_agent),
            "agent stopped for a while": ("agent", self._stop_agent),
            "worker killed": ("worker", self._kill_worker),
            "worker stopped for a while": ("worker", self._stop_worker),
            "broker killed": ("broker", self._kill_broker),
            "cloud killed": ("cloud", self._kill_cloud),
            "network pulled": ("network", self._pull),
            "disk full": ("disk", self._fill_disk),
            "clock wrong": ("clock", self._wrong_clock),
            "database locked from outside": ("database", self._lock_database),
            "database read for long": ("reader", self._pin_reader),
            "folder away": ("folder", self._take_folder),
        }
        deadly = {"agent killed", "agent restarted in order"}
        possible = [
            kind
            for kind, (what, _) in kinds.items()
            if what not in self._broken and kind not in self.left_out and (kill_agent or kind not in deadly)
        ]
        if not possible:
            return
        if not any(kind in possible for kind in self._deck):  # each kind comes before any comes again
            self._deck = self._rng.sample(list(kinds), len(kinds))
        kind = next(kind for kind in self._deck if kind in possible)
        self._deck.remove(kind)
        seconds = kinds[kind][1]()
        if seconds >= 0:
            self.counts[kind] += 1
            self.log.append((time.monotonic(), kind, seconds))

    def _span(self, least: float, most: float) -> float:
        return self._length * self._rng.uniform(least, most)

    def _kill_agent(self) -> float:
        self._scene.agent.kill()
        seconds = self._span(*RESTART_S)
        self._later("agent", seconds, self._scene.agent.start)
        return seconds

    def _restart_agent(self) -> float:
        code = self._scene.agent.stop()
        self.counts[f"ended with {code}"] += code != 0
        seconds = self._span(*RESTART_S)
        self._later("agent", seconds, self._scene.agent.start)
        return seconds

    def _stop_agent(self) -> float:
        seconds = self._span(0.5, 6.0)
        self._scene.agent.tell(signal.SIGSTOP)
        self._later("agent", seconds, lambda: self._scene.agent.tell(signal.SIGCONT))
        return seconds

    def _kill_worker(self) -> float:
        worker = self._scene.agent.worker()
        if worker is None:
            return -1.0
        with suppress(psutil.Error):
            worker.kill()
        return 0.0

    def _stop_worker(self) -> float:
        worker, seconds = self._scene.agent.worker(), self._span(1.0, 8.0)
        if worker is None:
            return -1.0
        with suppress(psutil.Error):
            worker.suspend()

        def go_on() -> None:
            with suppress(psutil.Error):  # its hang was noticed, and it was replaced
                worker.resume()

        self._later("worker", seconds, go_on)
        return seconds

    def _kill_broker(self) -> float:
        self._scene.sync.broker.kill()
        seconds = self._span(0.0, 6.0)
        self._later("broker", seconds, lambda: void(self._scene.sync.broker.start()))
        return seconds

    def _kill_cloud(self) -> float:
        self._scene.kill_cloud()
        seconds = self._span(0.0, 8.0)
        self._later("cloud", seconds, self._scene.start_cloud)
        return seconds

    def _pull(self) -> float:
        self._scene.network.pull()
        seconds = self._span(1.0, 15.0)
        self._later("network", seconds, self._scene.network.put_back)
        return seconds

    def _fill_disk(self) -> float:
        """To the last byte: the agent has found out before, and paused, or is hit in the middle of what it does."""
        ballast, seconds = self._scene.state / BALLAST, self._span(2.0, 10.0)
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            free = os.statvfs(self._scene.state)
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize))
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        self._later("disk", seconds, ballast.unlink)
        return seconds

    def _wrong_clock(self) -> float:
        world, seconds = self._scene.world, self._span(3.0, 20.0)
        if world is None:
            return -1.0
        if self._rng.random() < 0.5:
            world.set_clock(self._rng.uniform(0.0, 1e6))  # 1970: no battery
        else:
            world.shift_clock(self._rng.choice((-86400.0, -13.0, 13.0, 86400.0)))
        self._later("clock", seconds, lambda: world.shift_clock(0.0))
        return seconds

    def _lock_database(self) -> float:
        connection = self._open("")
        if connection is None:
            return -1.0
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:  # it is being written just now
            connection.close()
            return -1.0
        seconds = self._span(0.5, 4.0)
        self._later("database", seconds, connection.close)
        return seconds

    def _pin_reader(self) -> float:
        connection = self._open("?mode=ro")
        if connection is None:
            return -1.0
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM scans").fetchone()
        except sqlite3.OperationalError as error:  # damage is another error, and ends the soak
            print(f"soak: the reader from outside could not begin: {error}", file=sys.stderr)
            connection.close()
            return -1.0
        seconds = self._span(2.0, 15.0)
        self._later("reader", seconds, connection.close)
        return seconds

    def _open(self, mode: str) -> sqlite3.Connection | None:
        """A connection that never writes to the file: who is no agent must not checkpoint (F09)."""
        database = self._scene.state / "dermascan.db"
        if not database.exists() or not self._scene.agent.alive or "agent" in self._broken:
            return None
        return sqlite3.connect(f"file:{database}{mode or '?mode=rw'}", uri=True, isolation_level=None, timeout=0.2)

    def _take_folder(self) -> float:
        scope, seconds = self._rng.choice(self._scopes), self._span(1.0, 5.0)
        folder: Path = next(folder for folder in self._scene.scopes if folder.name == scope.name)
        if not scope.at_hand.acquire(timeout=3.0):
            return -1.0
        away = folder.with_name(f"{folder.name}-away")
        folder.rename(away)
        empty = self._rng.random() < 0.5  # a mount point whose share is gone, or nothing at all
        if empty:
            folder.mkdir()

        def bring_back() -> None:
            if empty:
                folder.rmdir()
            away.rename(folder)
            scope.at_hand.release()

        self._later("folder", seconds, bring_back)
        return seconds


def void(_: object) -> None:
    """For a plan that gives nothing back."""
