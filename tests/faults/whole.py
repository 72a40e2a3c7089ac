"""The whole agent as a process of its own, and what its books say, for the tests of the failure matrix."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import psutil
from typing_extensions import Self

CHANGED_AGENT = Path(__file__).with_name("changed_agent.py")
REPOSITORY = CHANGED_AGENT.parents[2]


def picture(number: int, width: int = 320, height: int = 240) -> bytes:
    """A JPEG that shows something of its own."""
    rng = np.random.default_rng(number)
    skin = cv2.resize(rng.integers(90, 220, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", skin)[1].tobytes()


def drop(folder: Path, *numbers: int, width: int = 320, height: int = 240) -> list[str]:
    """Captures, each put into the folder whole; returns the hashes of their content."""
    hashes = []
    for number in numbers:
        data = picture(number, width, height)
        hidden = folder / f".{number}.tmp"
        hidden.write_bytes(data)
        hidden.rename(folder / f"capture-{number}.jpg")
        hashes.append(hashlib.sha256(data).hexdigest())
    return hashes


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


class WholeAgent:
    """``dermascan run``; a context manager that kills what is left of it.

    Args:
        config: the settings; the log goes to ``agent.log`` beside them, one life after the other.
        changes: for ``changed_agent.py``.
        environment: instead of ours.
        within: words of a command before it.
    """

    def __init__(
        self,
        config: Path,
        *changes: str,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.config, self.root = config, config.parent
        self.log = self.root / "agent.log"
        command = [*within, sys.executable, str(CHANGED_AGENT), str(config), *changes]
        with self.log.open("ab") as words:
            self._from = words.tell()
            self.process = subprocess.Popen(
                command, stdout=words, stderr=subprocess.STDOUT, env=environment, cwd=REPOSITORY
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def said(self) -> str:
        """What this life has logged so far."""
        return self.log.read_bytes()[self._from :].decode()

    def wait_said(self, text: str, timeout_s: float = 20.0) -> None:
        """Wait for words in the log."""
        until(lambda: text in self.said or self.process.poll() is not None, f"{text!r} in the log", timeout_s)
        assert text in self.said, f"it ended with {self.process.returncode}: {self.said[-2000:]}"

    def wait_ready(self) -> Self:
        """Wait until an engine has passed its golden image."""
        self.wait_said("ready:")
        return self

    def worker(self) -> psutil.Process:
        """The process that owns the engine."""
        found: list[psutil.Process] = []

        def there() -> bool:
            found[:] = psutil.Process(self.process.pid).children(recursive=True)
            return bool(found)

        until(there, "a worker")
        return max(found, key=lambda process: process.memory_info().rss)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """SIGTERM; it must end in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.said[-2000:]


def rows(root: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """Ask the agent's database, read-only; nothing where it cannot be read just now."""
    try:
        with closing(sqlite3.connect(f"file:{root / 'state' / 'dermascan.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError:
        return []


def filed(root: Path) -> dict[str, str]:
    """Hash to terminal state, of every scan whose files lie there."""
    found = rows(root, "SELECT image_sha256, state FROM scans WHERE files_written = 1")
    return {str(sha256): str(state) for sha256, state in found}


def wait_filed(root: Path, hashes: Collection[str], timeout_s: float = 20.0) -> None:
    """Wait until all of these captures have their end and their files."""
    until(lambda: filed(root).keys() >= set(hashes), f"{len(hashes)} captures come to their end", timeout_s)


def check_books(root: Path, hashes: Collection[str], *, state: str = "answered") -> None:
    """These captures and no others: one end each, one event each, their files whole."""
    scans = rows(root, "SELECT scan_id, image_sha256, state, result FROM scans ORDER BY seq")
    assert Counter(sha256 for _, sha256, *_ in scans) == Counter(set(hashes))
    assert {found for _, _, found, _ in scans} == {state}
    events = rows(root, "SELECT scan_id FROM outbox WHERE type LIKE '%result%'")
    assert Counter(events) == Counter((scan_id,) for scan_id, *_ in scans)
    results = root / "state" / "results"
    suffixes = (".json", ".png") if state == "answered" else (".json",)
    names = {f"{scan_id}{suffix}" for scan_id, *_ in scans for suffix in suffixes}
    assert {path.name for path in results.iterdir()} == names, "a file is missing, or a half-written one was left"
    for scan_id, sha256, *_ in scans:
        assert json.loads((results / f"{scan_id}.json").read_bytes())["image_sha256"] == sha256
        assert state != "answered" or cv2.imread(str(results / f"{scan_id}.png")) is not None
    assert rows(root, "PRAGMA integrity_check") == [("ok",)]
