"""The wall clock and the disk of a whole process, changed from outside while it runs (F06, F11, F16).

A small C library, compiled where it is used, stands before the C library's calls; the process is started with
``world.environment`` and holds no line for this.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntFlag
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("outside_world.c")
_LAYOUT: Final = struct.Struct("=qiiiiii224s")
_CLOCK: Final = struct.Struct("=q")
_DISK: Final = struct.Struct("=iiiiii224s")


class NoCompiler(Exception):
    """The library cannot be made here; one sentence."""


class Disk(IntFlag):
    """What goes wrong."""

    WRITES = 1
    SYNCS = 2
    SHORT = 4
    """With `WRITES`: half of it is written, and no error told."""
    OPENS = 8
    """Of files that are to be made."""


class OutsideWorld:
    """A context manager; what it changes holds for every process that was started with its ``environment``.

    Raises:
        NoCompiler: there is no C compiler here.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise NoCompiler("there is no C compiler (Debian: apt-get install gcc libc6-dev)")
        folder.mkdir(parents=True, exist_ok=True)
        library, self._file = folder / "outside_world.so", folder / "world"
        done = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NoCompiler(f"{SOURCE.name} cannot be compiled: {done.stderr.strip()}")
        self._file.write_bytes(bytes(_LAYOUT.size))
        with self._file.open("r+b") as file:
            self._world = mmap.mmap(file.fileno(), _LAYOUT.size)
        self.environment = os.environ | {"LD_PRELOAD": str(library), "DERMASCAN_OUTSIDE": str(self._file)}

    def shift_clock(self, seconds: float) -> None:
        """From now on the wall clock shows so many seconds more than it should; never less than 1970."""
        self._world[: _CLOCK.size] = _CLOCK.pack(round(seconds * 1e9))

    def set_clock(self, shown: float) -> None:
        """From now on the wall clock goes on from this time, in seconds since 1970."""
        self.shift_clock(shown - time.time())

    @contextmanager
    def bad_disk(self, faults: Disk, part: str, error: int = 0, every: int = 1) -> Iterator[None]:
        """While the context lasts, calls on files whose path holds ``part`` go wrong, every so many of them."""
        rest = _DISK.pack(int(faults), error, every, 0, 0, 0, part.encode())
        self._world[_CLOCK.size :] = rest
        try:
            yield
        finally:
            self.heal_disk()

    def heal_disk(self) -> None:
        """Files are written again; `hits` stays."""
        self._world[_CLOCK.size : _CLOCK.size + 4] = bytes(4)

    @property
    def hits(self) -> int:
        """Calls that went wrong since `bad_disk`."""
        return int(_DISK.unpack(self._world[_CLOCK.size :])[4])

    def close(self) -> None:
        """All is as it should be again."""
        self._world[:] = bytes(_LAYOUT.size)
        self._world.close()
