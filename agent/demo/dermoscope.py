"""A simulated dermoscope: writes its pictures into a folder in all the ways that cameras do (F01)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Final

from agent.demo.encode import Format, encode, with_comment
from agent.demo.render import render_lesion

Size = tuple[int, int]
"""Width and height in pixels."""

SIZES: Final[tuple[Size, ...]] = ((1024, 768), (1600, 1200), (2048, 1536), (4000, 3000))
PREFIX: Final = "SYN_"
HEADER_BYTES: Final = 4096


class Habit(str, Enum):
    """How a camera writes a file."""

    WHOLE = "whole"
    """Opened, written at once, closed."""
    SLOW = "slow"
    """Written in pieces with pauses between them, closed at the end."""
    PAUSED = "paused"
    """The header, a long pause, then the rest; one open file all the while."""
    RENAME = "rename"
    """Written under a temporary name, then renamed: the only event is MOVED_TO."""
    TWICE = "twice"
    """Half of it written and closed, then opened again and completed: two CLOSE_WRITE events, the first too early."""
    REWRITTEN = "rewritten"
    """Written whole and closed, then opened again and overwritten with the same bytes: one picture, two events."""
    HARD_LINK = "hard_link"
    """Written under a temporary name, then linked to its own: the only event is CREATE."""


@dataclass(frozen=True)
class Exposure:
    """A picture that was taken and not yet written: encoded bytes and the name they will get."""

    name: str
    seed: int
    size: Size
    format: Format
    data: bytes

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes, in hex: the capture's identity."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Shot:
    """A picture in the folder."""

    path: Path
    sha256: str
    habit: Habit
    closed_monotonic: float
    """``time.monotonic()`` just after the file first lay there whole, under its name and closed."""
    size: Size
    format: Format


@dataclass(frozen=True)
class Pace:
    """How long the writing habits take, in seconds."""

    pieces: int = 12
    between_pieces_s: float = 0.08
    pause_s: float = 1.2
    reopen_s: float = 0.4


class SimulatedDermoscope:
    """Takes simulated pictures and writes them into ``folder`` (which it makes where it is missing).

    Pictures are numbered; a new dermoscope on an old folder goes on after the highest number it finds there, so that no
    picture is ever overwritten or taken twice. Not thread-safe: a camera takes one picture at a time.
    """

    def __init__(
        self,
        folder: Path,
        seed: int = 1,
        *,
        pace: Pace = Pace(),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        """``sleep``, ``clock`` (monotonic seconds) and ``now`` (for the EXIF time) are handed in for tests.

        Raises:
            ValueError: the seed is negative.
        """
        if seed < 0:
            raise ValueError(f"seed {seed}: must not be negative")
        self.folder = folder
        self._seed, self._pace, self._sleep, self._clock, self._now = seed, pace, sleep, clock, now
        folder.mkdir(parents=True, exist_ok=True)
        taken = (path.name[len(PREFIX) :].split(".")[0] for path in folder.glob(f"{PREFIX}*"))
        self._number = max((int(number) for number in taken if number.isdecimal()), default=0)

    def shoot(
        self,
        habit: Habit = Habit.WHOLE,
        size: Size = SIZES[0],
        format: Format = Format.JPEG,  # noqa: A002 - the word that everyone uses
        *,
        sidecar: Mapping[str, object] | None = None,
    ) -> Shot:
        """Take a picture and write it; returns when the file lies there and the habit has run its course."""
        return self.write(self.expose(size, format), habit, sidecar=sidecar)

    def expose(self, size: Size = SIZES[0], format: Format = Format.JPEG) -> Exposure:  # noqa: A002
        """Render and encode the next picture without writing it, so that writing costs no more than a camera's does."""
        self._number += 1
        seed = (self._seed * 1_000_003 + self._number) % 2**63
        data = encode(render_lesion(seed, *size), format, self._now())
        return Exposure(f"{PREFIX}{self._number:05d}.{format.value}", seed, size, format, data)

    def again(self, exposure: Exposure) -> Exposure:
        """The same picture with the next number and other bytes, thousands a second: for runs that need many captures.

        Raises:
            ValueError: the exposure is not a JPEG.
        """
        self._number += 1
        data = with_comment(exposure.data, f"{PREFIX}{self._number} {self._now().isoformat()}")
        return replace(exposure, name=f"{PREFIX}{self._number:05d}.{exposure.format.value}", data=data)

    def write(
        self, exposure: Exposure, habit: Habit = Habit.WHOLE, *, sidecar: Mapping[str, object] | None = None
    ) -> Shot:
        """Write a picture into the folder as ``habit`` says; a ``sidecar`` lies there as ``NAME.json`` before it."""
        path = self.folder / exposure.name
        if sidecar is not None:
            path.with_suffix(".json").write_text(json.dumps(dict(sidecar)), encoding="utf-8")
        closed = _WRITERS[habit](self, path, exposure.data)
        return Shot(path, exposure.sha256, habit, closed, exposure.size, exposure.format)

    def spoil(self, text: str = "This is not a picture.") -> Shot:
        """Write a text file that is named like a JPEG: what a wrongly set-up export makes; it must be rejected."""
        self._number += 1
        data = f"{text} ({PREFIX}{self._number}, {self._now().isoformat()})\n".encode()
        path = self.folder / f"{PREFIX}{self._number:05d}.jpg"
        closed = self._whole(path, data)
        return Shot(path, hashlib.sha256(data).hexdigest(), Habit.WHOLE, closed, (0, 0), Format.JPEG)

    def _whole(self, path: Path, data: bytes) -> float:
        path.write_bytes(data)
        return self._clock()

    def _slow(self, path: Path, data: bytes) -> float:
        piece = -(-len(data) // self._pace.pieces)
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), piece):
                if start:
                    self._sleep(self._pace.between_pieces_s)
                _write_all(file.fileno(), data[start : start + piece])
        return self._clock()

    def _paused(self, path: Path, data: bytes) -> float:
        header = min(HEADER_BYTES, len(data) // 2)
        with path.open("wb", buffering=0) as file:
            _write_all(file.fileno(), data[:header])
            self._sleep(self._pace.pause_s)
            _write_all(file.fileno(), data[header:])
        return self._clock()

    def _rename(self, path: Path, data: bytes) -> float:
        temporary = self._temporary(path, data)
        temporary.rename(path)
        return self._clock()

    def _twice(self, path: Path, data: bytes) -> float:
        half = len(data) // 2
        path.write_bytes(data[:half])
        self._sleep(self._pace.reopen_s)
        with path.open("ab") as file:
            file.write(data[half:])
        return self._clock()

    def _rewritten(self, path: Path, data: bytes) -> float:
        path.write_bytes(data)
        closed = self._clock()
        self._sleep(self._pace.reopen_s)
        path.write_bytes(data)
        return closed

    def _hard_link(self, path: Path, data: bytes) -> float:
        temporary = self._temporary(path, data)
        os.link(temporary, path)
        closed = self._clock()
        temporary.unlink()
        return closed

    def _temporary(self, path: Path, data: bytes) -> Path:
        """Write to a hidden name in the same folder, as programs do that rename."""
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(data)
        return temporary


_WRITERS: Final[Mapping[Habit, Callable[[SimulatedDermoscope, Path, bytes], float]]] = {
    Habit.WHOLE: SimulatedDermoscope._whole,  # noqa: SLF001
    Habit.SLOW: SimulatedDermoscope._slow,  # noqa: SLF001
    Habit.PAUSED: SimulatedDermoscope._paused,  # noqa: SLF001
    Habit.RENAME: SimulatedDermoscope._rename,  # noqa: SLF001
    Habit.TWICE: SimulatedDermoscope._twice,  # noqa: SLF001
    Habit.REWRITTEN: SimulatedDermoscope._rewritten,  # noqa: SLF001
    Habit.HARD_LINK: SimulatedDermoscope._hard_link,  # noqa: SLF001
}


def _write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; a single ``write`` may stop short."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
