"""The supervised worker: no answer leaves a suspect engine, and a new engine proves itself before it is asked (F12, F23)."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from engines.backend import BackendFailed, BackendSpec, DeadlineExceeded, EngineError, Images, NotReady, Output, WorkerDied
from engines.backoff import Backoff
from engines.golden import GoldenCheck, check_output
from engines.process import WorkerProcess

log = logging.getLogger(__name__)


class WorkerState(str, Enum):
    """Where a worker stands."""

    STARTING = "starting"
    """The process loads its backend or runs the golden image."""
    READY = "ready"
    BACKING_OFF = "backing_off"
    """After a fault, until the back-off is over."""
    STOPPED = "stopped"


@dataclass(frozen=True)
class WorkerSettings:
    """Times in seconds, memory in bytes."""

    start_timeout_s: float = 60.0
    """For opening the backend, and again for its golden image."""
    golden_timeout_s: float = 5.0
    """For the golden image later on; at least ten usual runs are always granted."""
    recheck_every: int = 100
    """Runs after which the golden image must pass before the last of them is answered."""
    quiet_s: float = 1.0
    """After half as many runs, the first pause of this length is used instead, so that nobody waits."""
    idle_recheck_s: float = 60.0
    """Pause after which the golden image is run whatever the count; without work, then every tenth such pause."""
    growth_bytes: int = 256 << 20
    growth_share: float = 0.5
    """The process is replaced when it grew by more than the larger of both since its first golden image (F23)."""
    stop_timeout_s: float = 10.0


@dataclass(frozen=True)
class _Request:
    images: Images
    deadline: float
    answer: Future[Output] = field(default_factory=Future)


class _Stop(Exception):
    """The worker is being stopped."""


class _Recycle(Exception):
    """The process grew too large and is to be replaced."""


class Worker:
    """Owns one worker process, on one thread of its own. Reusable after :meth:`stop`; every method is thread-safe."""

    def __init__(
        self,
        spec: BackendSpec,
        golden: GoldenCheck,
        *,
        settings: WorkerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
    ) -> None:
        self.spec, self._golden, self._clock = spec, golden, clock
        self._settings = settings or WorkerSettings()
        self._backoff = backoff or Backoff(clock=clock)
        self._changed = threading.Condition()
        self._queue: deque[_Request] = deque()
        self._state = WorkerState.STOPPED
        self._process: WorkerProcess | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._wake = -1
        self._number = 0
        self._runs_since_golden = 0
        self._memory_limit = 0
        self.restarts = 0
        """Processes started after the first."""
        self.recycles = 0
        """Of these, the planned ones after growth."""
        self.rechecks = 0
        """Golden images passed after the start's."""
        self.last_failure: str | None = None
        self.typical_run_s: float | None = None
        """Moving average of the run time; None before the first start."""

    @property
    def state(self) -> WorkerState:
        """Where the worker stands now."""
        return self._state

    @property
    def ready(self) -> bool:
        """Whether the engine has passed its golden image and takes work."""
        return self._state is WorkerState.READY

    @property
    def pid(self) -> int | None:
        """The worker process, if there is one."""
        process = self._process
        return process.pid if process else None

    def start(self) -> None:
        """Start supervising; returns at once (see :meth:`wait_ready`)."""
        with self._changed:
            if self._thread is not None:
                return
            self._stopping = False
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._set_state(WorkerState.STARTING)
            self._thread = threading.Thread(target=self._supervise, name=f"worker-{self.spec.name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the process and the thread; requests not yet answered fail with :class:`NotReady`."""
        with self._changed:
            thread, self._stopping = self._thread, True
            if thread is None:
                return
            busy = self._state is not WorkerState.READY or self._working
            if busy and self._process is not None:
                self._process.signal_end()
            self._nudge()
            self._changed.notify_all()
        thread.join(self._settings.stop_timeout_s)
        if thread.is_alive():
            log.error("%s: the supervising thread does not end", self.spec.name)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the worker is ready; False where it is not within ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state is WorkerState.READY, timeout_s)
