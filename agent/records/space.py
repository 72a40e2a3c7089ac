"""How much of the quota is used, cheaply: so that intake pauses before an answer has no room (F06)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.records.replacing import DATABASE
from agent.records.results import RESULTS_DIR

UPLOADS_DIR = "uploads"
"""Under ``state_dir``: pictures that came by a request."""
MIB = 1024 * 1024
PAUSE_SHARE = 0.95
"""Of the quota: from here on nothing new is taken in."""
RESUME_SHARE = 0.93
"""Lower, so that one answer more or less does not stop and start intake."""
DISK_RESERVE_BYTES = 64 * MIB
"""What stays free on the disk: SQLite can not even delete on a full one."""
FRESH_S = 2.0


@dataclass(frozen=True)
class Space:
    """Bytes used of the quota, and free on the disk."""

    database: int
    results: int
    quota: int
    disk_free: int

    @property
    def share(self) -> float:
        """Used share of the quota; 1.0 and more is over it."""
        return (self.database + self.results) / self.quota


class SpaceGuard:
    """Watches the quota over database, result files and uploads. Files are counted once and then by what is told.

    Args:
        state_dir: holds ``dermascan.db``, ``results/`` and ``uploads/``.
        quota_mb: for all together, in MiB.
        clock: monotonic seconds.
    """

    def __init__(self, state_dir: Path, quota_mb: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._state_dir = state_dir
        self._quota = quota_mb * MIB
        self._clock = clock
        uploads = state_dir / UPLOADS_DIR
        self._results = sum(map(_bytes_in, (state_dir / RESULTS_DIR, *(uploads.iterdir() if uploads.exists() else ()))))
        self._unused = 0
        self._space: Space | None = None
        self._measured_at = 0.0
        self._full = False

    def wrote(self, count: int) -> None:
        """Tell the bytes of files written (negative: removed)."""
        self._results += count

    def use_quota(self, quota_mb: int) -> None:
        """Another quota from now on, in MiB."""
        self._quota = quota_mb * MIB
        self._space = None

    def unused(self, count: int) -> None:
        """Tell the bytes that are free within the database's file: it does not shrink, and fills these first."""
        self._unused = count

    def space(self) -> Space:
        """The figures, at most ``FRESH_S`` old."""
        if self._space is None or self._clock() - self._measured_at >= FRESH_S:
            return self.measure()
        return self._space

    def measure(self) -> Space:
        """The figures as of now."""
        disk = os.statvfs(self._state_dir)
        database = sum(_size(self._state_dir / f"{DATABASE}{suffix}") for suffix in ("", "-wal"))
        database = max(0, database - self._unused)
        self._space = Space(database, self._results, self._quota, disk.f_bavail * disk.f_frsize)
        self._measured_at = self._clock()
        return self._space

    def full(self) -> bool:
        """True while intake must pause: from ``PAUSE_SHARE`` until below ``RESUME_SHARE``, or with no disk left."""
        space = self.space()
        limit = RESUME_SHARE if self._full else PAUSE_SHARE
        self._full = space.share >= limit or space.disk_free < DISK_RESERVE_BYTES
        return self._full

    def sentence(self) -> str:
        """What to tell people while ``full``."""
        return f"{self.figures()}: intake is paused until there is room; raise [store] quota_mb or free the disk"

    def figures(self) -> str:
        """How much is used, in words."""
        space = self.space()
        used = (space.database + space.results) // MIB
        return (
            f"{self._state_dir}: {used} of {self._quota // MIB} MiB used, {space.disk_free // MIB} MiB free on the disk"
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _bytes_in(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries if entry.is_file())
    except FileNotFoundError:
        return 0
