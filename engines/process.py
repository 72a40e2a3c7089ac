"""The agent's handle on one worker process: start it, exchange messages with it, end it for certain."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engines.backend import (
    BackendFailed,
    BackendSpec,
    DeadlineExceeded,
    EngineError,
    Images,
    Output,
    Patients,
    WorkerDied,
)
from engines.wire import Channel, Floats, Garbled

log = logging.getLogger(__name__)

_ROOT: Final = Path(__file__).resolve().parent.parent
_REAP_S: Final = 5.0
_POLITE_S: Final = 2.0


def _spawn(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """A fresh interpreter, which inherits nothing but its socket, its lifeline (standard input) and standard error."""
    return subprocess.Popen(
        [sys.executable, "-m", "engines.worker", str(theirs.fileno()), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=2,  # whatever a library prints must not mix with the agent's own output
        pass_fds=[theirs.fileno()],
        cwd=_ROOT,
        # numpy's own linear algebra is not used there; its threads would cost memory.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C in a terminal goes to the agent alone
    )


class WorkerProcess:
    """One started worker process. After any error but none: :meth:`kill` it, and start another."""

    def __init__(self, spec: BackendSpec, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the process and send it its order; loading goes on in it.

        Raises:
            WorkerDied: no process could be started.
        """
        self._clock = clock
        self._number = 0
        self.resident = 0
        """Resident memory in bytes, as of the last answer."""
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours, clock)
        try:
            with theirs:
                self._process = _spawn(theirs)
        except OSError as error:
            ours.close()
            raise WorkerDied(f"the worker process could not be started ({error.strerror})") from error
        order = {
            "factory": spec.factory,
            "bundle": str(spec.bundle.resolve()),
            "options": dict(spec.options),
            "path": [entry for entry in sys.path if entry],
        }
        try:
            self._channel.send(order, deadline=clock() + _REAP_S)
        except OSError as error:
            self.kill()
            raise WorkerDied(f"the worker process ended at once ({self._ending()})") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Descriptor that becomes readable when the process ends (or speaks out of turn)."""
        return self._channel.fileno()

    def disturbed(self) -> EngineError:
        """What happened when the descriptor became readable although nothing was asked."""
        if self._process.poll() is None and self._channel.has_data():
            return BackendFailed("idle: the worker process sent something unasked")
        return WorkerDied(f"idle: the worker process ended ({self._ending()})")

    def _ending(self) -> str:
        """How the process ended, in words; waits for it a moment."""
        try:
            code = self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            return "it closed its end and does not stop"
        if code >= 0:
            return f"exit status {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    def _read(self, head: dict[str, Any], request: int) -> str | None:
        """What the backend raised, if it did; notes the process's memory."""
        if head.get("id") != request:
            raise Garbled(f"an answer to request {head.get('id')!r} where {request} was asked")
        if "error" in head:
            return str(head["error"])
        self.resident = int(head["resident"])
        return None

    def _receive(self, request: int, deadline: float, what: str) -> list[Floats]:
        started = self._clock()
        try:
            head, arrays = self._channel.receive(deadline)
            failure = self._read(head, request)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{what}: no answer within {self._clock() - started:.1f} s") from error
        except (EOFError, OSError) as error:
            raise WorkerDied(f"{what}: the worker process ended ({self._ending()})") from error
        except (Garbled, KeyError, TypeError, ValueError) as error:
            raise BackendFailed(f"{what}: the worker process sent {error}") from error
        if failure is not None:
            raise BackendFailed(f"{what}: {failure}")
        return arrays

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the backend is open.

        Raises:
            EngineError: it raised, the process ended, or it took longer than ``deadline`` on the clock.
        """
        self._receive(0, deadline, "opening the backend")

    def run(self, images: Images, deadline: float, patients: Patients = ()) -> Output:
        """Run the backend on ``[N, 3, S, S]`` by ``deadline`` on the clock; ``patients`` are for remote ones.

        Every question has a number, so that no answer is ever taken for another's.

        Raises:
            EngineError: as for :meth:`wait_loaded`. The output is not judged here (see ``engines.golden``).
        """
        self._number += 1
        try:
            head = {"id": self._number, "within_s": deadline - self._clock(), "patients": patients}
            self._channel.send(head, [images], deadline)
        except TimeoutError as error:
            raise DeadlineExceeded("running: the worker process does not take the picture") from error
        except OSError as error:
            raise WorkerDied(f"running: the worker process ended ({self._ending()})") from error
        arrays = self._receive(self._number, deadline, "running")
        if len(arrays) != 2:
            raise BackendFailed(f"running: the worker process sent {len(arrays)} arrays instead of 2")
        return Output(*arrays)

    def kill(self) -> None:
        """End the process now, without asking it."""
        self._process.kill()
        self._close()

    def finish(self) -> None:
        """Let the process close its backend and end; kill it where it does not."""
        self._channel.close()
        try:
            self._process.wait(_POLITE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._close()

    def signal_end(self) -> None:
        """Kill from another thread; the owner then finds the process dead."""
        self._process.kill()

    def _close(self) -> None:
        self._channel.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            # Stuck in a driver call: it holds its memory until that returns, and can answer nobody.
            log.exception("worker process %d does not end although it was killed", self.pid)
