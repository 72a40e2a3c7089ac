"""The agent's handle on the process that exports: start it, speak with it in lines, end it for certain."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_REAP_S: Final = 5.0
_CHUNK: Final = 1 << 20
_FEW_THREADS: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ChildEnded(Exception):
    """It ended, or said what cannot be understood; the text says how."""


class ChildSilent(ChildEnded):
    """It said nothing in the time allowed."""


class Child:
    """One started process. After ``ChildEnded``: end it, and start another."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Start it and send it its order; loading goes on in it.

        Raises:
            ChildEnded: no process could be started.
        """
        self._rest = b""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent.standards.worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what libraries say there may hold a patient's name (F30)
                bufsize=0,
                cwd=_ROOT,
                env={**os.environ, **_FEW_THREADS},
                start_new_session=True,  # Ctrl-C in a terminal goes to the agent alone
            )
        except OSError as error:
            raise ChildEnded(f"it could not be started ({error.strerror})") from error
        self.send(order)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, line: dict[str, Any]) -> None:
        """Say one line to it; raises ChildEnded."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise ChildEnded(self._ending()) from error

    def hear(self, timeout_s: float) -> dict[str, Any]:
        """Its next line; raises ChildEnded where there is none in time."""
        give_up = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            self._rest += self._read(give_up)
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            heard = json.loads(line)
        except ValueError as error:
            raise ChildEnded("it said what cannot be understood") from error
        return dict(heard)

    def hear_bytes(self, size: int, timeout_s: float) -> bytes:
        """The next ``size`` bytes from it; raises ChildEnded where they do not come in time."""
        give_up = time.monotonic() + timeout_s
        parts, have = [self._rest[:size]], len(self._rest[:size])
        self._rest = self._rest[size:]
        while have < size:
            part = self._read(give_up)
            parts.append(part[: size - have])
            self._rest = part[size - have :]
            have += len(parts[-1])
        return b"".join(parts)

    def _read(self, give_up: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, give_up - time.monotonic()))
        if not ready:
            raise ChildSilent("it took too long")
        part = os.read(self._process.stdout.fileno(), _CHUNK)
        if not part:
            raise ChildEnded(self._ending())
        return part

    def _ending(self) -> str:
        try:
            return f"it ended with status {self._process.wait(_REAP_S)}"
        except subprocess.TimeoutExpired:
            return "it closed its end and does not stop"

    def end(self, patience_s: float = 0.0) -> None:
        """End it: its input is closed, by which it ends after the scan in hand; after that it is killed."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
