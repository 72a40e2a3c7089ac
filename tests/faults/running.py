"""A daemon in the test's own process, with its commits collected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.analysts import Finished
from agent.config import load_config
from agent.daemon import Daemon


class Commits:
    """What the daemon told, by the file's name."""

    def __init__(self) -> None:
        self.seen: list[Finished] = []
        self._changed = threading.Condition()

    def __call__(self, finished: Finished) -> None:
        with self._changed:
            self.seen.append(finished)
            self._changed.notify_all()

    def wait(self, condition: Callable[[dict[str, Finished]], bool], timeout_s: float = 25) -> dict[str, Finished]:
        """Wait until the commits, by name, fulfil a condition."""
        with self._changed:
            done = self._changed.wait_for(lambda: condition(self.by_name()), timeout_s)
            assert done, f"not within {timeout_s} s; committed so far: {sorted(self.by_name())}"
            return self.by_name()

    def by_name(self) -> dict[str, Finished]:
        return {finished.path.name: finished for finished in self.seen}


@contextmanager
def running(config: Path) -> Iterator[tuple[Daemon, Commits]]:
    """Start a daemon, stop it in order."""
    commits = Commits()
    daemon = Daemon(load_config(config), on_finished=commits)
    daemon.start()
    try:
        yield daemon, commits
    finally:
        daemon.stop()
