"""A control group of the test's own, which limits the memory of what runs in it (F23). Version 1 and 2; needs root."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class NoGroups(Exception):
    """There can be none here; one sentence."""


@dataclass(frozen=True)
class MemoryGroup:
    """A group; ``limit_file`` takes bytes."""

    folder: Path
    limit_file: Path

    @property
    def within(self) -> tuple[str, ...]:
        """Words before a command that run it in the group."""
        return ("sh", "-c", f'echo $$ > {self.folder / "cgroup.procs"} && exec "$@"', "sh")

    def limit(self, count: int | None) -> None:
        """Allow so many bytes, or as many as there are."""
        for _ in range(100):  # in version 1 the limit cannot be put below what is used, until that was given back
            try:
                self.limit_file.write_text(str(count if count is not None else -1 if self._first else "max"))
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise NoGroups(f"{self.limit_file} does not take {count}")

    @property
    def _first(self) -> bool:
        return self.limit_file.name == "memory.limit_in_bytes"

    @property
    def used(self) -> int:
        """Bytes that count now."""
        return int((self.folder / ("memory.usage_in_bytes" if self._first else "memory.current")).read_text())

    @property
    def kills(self) -> int:
        """How often the kernel has killed for want of memory."""
        name = "memory.oom_control" if self._first else "memory.events"
        lines = (self.folder / name).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A new group; gone at the end, when nothing runs in it any more.

    Raises:
        NoGroups: there can be none.
    """
    if os.geteuid() != 0:
        raise NoGroups("control groups need root")
    parent = ROOT / "memory" if (ROOT / "memory").is_dir() else ROOT
    folder = parent / f"dermascan-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        raise NoGroups(f"control groups cannot be made in {parent} ({error.strerror})") from error
    try:
        names = ("memory.limit_in_bytes", "memory.max")
        limits = [folder / name for name in names if (folder / name).exists()]
        if not limits:
            raise NoGroups(f"{parent} does not limit memory")
        yield MemoryGroup(folder, limits[0])
    finally:
        for _ in range(100):
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)
