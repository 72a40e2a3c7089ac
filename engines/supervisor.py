"""The supervised worker: no answer leaves a suspect engine; a new one proves itself before it is asked (F12, F23)."""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from enum import Enum
from typing import Final

import numpy as np

from engines.backend import BackendSpec, DeadlineExceeded, EngineError, Images, NotReady, Output, Patients, WorkerDied
from engines.backoff import Backoff
from engines.golden import GoldenCheck
from engines.proven import ProvenEngine, WorkerSettings
from engines.requests import Request, Requests

log = logging.getLogger(__name__)

_ALONE_AFTER_FAULT: Final = 16
"""Requests that get a run of their own after a fault, so that the next one shows whose pictures are to blame."""
_BATCH_HEADROOM: Final = 1.5
"""Requests share a run only where it would end in time even if it took this much longer than run one by one."""
_STOP_TIMEOUT_S: Final = 15.0
_MARGIN_S: Final = 10.0
"""For the supervising thread to end a hung process and say so, after a caller's deadline."""


class WorkerState(str, Enum):
    """Where a worker stands."""

    STARTING = "starting"
    """The process loads its backend or runs its first golden image."""
    READY = "ready"
    BACKING_OFF = "backing_off"
    """After a fault, until the back-off is over."""
    STOPPED = "stopped"


class _Stop(Exception):
    """The worker is being stopped."""


class _Recycle(Exception):
    """The process grew too large and is to be replaced."""


class Worker:
    """Owns one worker process, on one thread of its own. Every method may be called from any thread."""

    def __init__(
        self,
        spec: BackendSpec,
        golden: GoldenCheck,
        *,
        settings: WorkerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = spec.name
        self._spec, self._golden, self._clock = spec, golden, clock
        self._settings = settings or WorkerSettings()
        self._backoff = backoff or Backoff(clock=clock)
        self._changed = threading.Condition()
        self._queue = Requests()
        self._state = WorkerState.STOPPED
        self._engine: ProvenEngine | None = None
        self._idle = False
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._wake = -1
        self._alone = 0
        self.starts = 0
        self.recycles = 0
        """Planned replacements after growth."""
        self.faults = 0
        self.rechecks = 0
        """Golden images passed by running engines."""
        self.last_failure: str | None = None
        self.typical_run_s: float | None = None
        """Moving average of the run time in seconds; None before the first engine was ready."""

    @property
    def state(self) -> WorkerState:
        """Where the worker stands now."""
        return self._state

    @property
    def ready(self) -> bool:
        """Whether the engine has passed its golden image and takes work."""
        return self._state is WorkerState.READY

    @property
    def restarts(self) -> int:
        """Processes started after the first."""
        return max(self.starts - 1, 0)

    @property
    def pid(self) -> int | None:
        """The worker process's id, if there is one."""
        engine = self._engine
        return engine.process.pid if engine else None

    def start(self) -> None:
        """Start supervising; returns at once (see :meth:`wait_ready`)."""
        with self._changed:
            if self._thread is not None:
                return
            self._stopping = False
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._enter(WorkerState.STARTING)
            self._thread = threading.Thread(target=self._supervise, name=f"worker-{self.name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the process and the thread; requests not yet answered fail with :class:`NotReady`."""
        with self._changed:
            thread, self._stopping = self._thread, True
            if thread is None:
                return
            if self._engine is not None and not self._idle:
                self._engine.process.signal_end()  # it computes or loads: the thread waits for it, so end it
            self._nudge()
            self._changed.notify_all()
        thread.join(_STOP_TIMEOUT_S)
        if thread.is_alive():
            log.error("%s: the supervising thread does not end", self.name)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the worker is ready; False where it is not within ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state is WorkerState.READY, timeout_s)

    def run(self, images: Images, timeout_s: float, patients: Patients = ()) -> Output:
        """Run the model; callers are served in turn, and wait while the worker starts.

        Callers who wait at the same time share a run of up to ``max_batch`` pictures. Where that fails, nobody's images
        are held to be at fault; the next requests are run one by one, which tells.

        Args:
            images: ``[N, 3, S, S]`` float32, preprocessed as the bundle says.
            timeout_s: for waiting and running together. An engine at work past it is killed.
            patients: for a remote backend, one for each image; empty for others.

        Raises:
            NotReady: the images were never begun.
            EngineError: they were, and no answer may be given; ``on_images`` tells whether they may be to blame.
            ValueError: the array does not fit the model.
        """
        want = self._golden.images.shape[1:]
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != want or not len(images):
            raise ValueError(f"{self.name}: float32 [N, {want}] is due, not {images.dtype} {list(images.shape)}")
        request = Request(images, timeout_s, self._clock() + timeout_s, patients)
        with self._changed:
            if self._stopping or not self._in_time(request):
                raise NotReady(self._why_not())
            self._queue.add(request)
            self._nudge()
        try:
            try:
                return request.answer.result(timeout_s)
            except FutureTimeout:
                if request.answer.cancel():
                    with self._changed:
                        self._queue.drop(request)
                    raise NotReady(self._why_not()) from None
            try:  # begun: the supervising thread ends it now, or releases it after a golden image
                return request.answer.result(_MARGIN_S + self._settings.golden_timeout_s)
            except FutureTimeout:
                raise DeadlineExceeded(f"{self.name}: no answer within {timeout_s:.1f} s", on_images=True) from None
        finally:
            del request  # it holds the error, and that this frame (`EngineError.retold`)

    def _why_not(self) -> str:
        """Why a request was not begun. One sentence."""
        if self._state is WorkerState.READY:
            return f"{self.name}: busy with other pictures for all of the time given"
        because = f" after: {self.last_failure}" if self.last_failure else ""
        return f"{self.name}: {self._state.value.replace('_', ' ')}{because}"

    def _in_time(self, request: Request) -> bool:
        """Whether the worker may be ready before the request's deadline, as far as is known."""
        if self._state is WorkerState.BACKING_OFF:
            return self._backoff.until < request.deadline
        return self._state is not WorkerState.STOPPED

    def _nudge(self) -> None:
        """Wake the supervising thread from its poll (with the lock held)."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _enter(self, state: WorkerState) -> None:
        """Change the state (with the lock held); queued requests that cannot be served any more fail at once."""
        self._state = state
        self._queue.fail(lambda request: not self._in_time(request), lambda: NotReady(self._why_not()))
        self._changed.notify_all()

    # The rest runs on the supervising thread.

    def _supervise(self) -> None:
        try:
            while not self._stopping:
                self._one_life()
                self._wait_back_off()
        finally:
            with self._changed:
                self._thread = None
                self._enter(WorkerState.STOPPED)
                os.close(self._wake)
                self._wake = -1

    def _one_life(self) -> None:
        """Start an engine and serve with it until it is stopped, replaced or suspect."""
        try:
            engine = self._open()
            self._serve(engine)
        except (_Stop, _Recycle):
            if self._engine is not None:
                self._engine.process.finish()
        except Exception as error:  # noqa: BLE001 - supervision itself must not end; an unknown fault is a fault
            self._fault(error)
            if self._engine is not None:
                self._engine.process.kill()
        with self._changed:
            self._engine = None

    def _open(self) -> ProvenEngine:
        engine = ProvenEngine(self._spec, self._golden, self._settings, self._clock)
        self.starts += 1
        with self._changed:
            self._engine = engine
            self._idle = False
            if self._stopping:
                raise _Stop
        engine.prove()
        with self._changed:
            self.typical_run_s = engine.typical_run_s
            self._backoff.worked()
            self._enter(WorkerState.READY)
        log.info("%s: ready, process %d", self.name, engine.process.pid)
        return engine

    def _fault(self, error: BaseException) -> EngineError:
        """Make a suspect engine unable to answer, and begin the back-off."""
        failure = error if isinstance(error, EngineError) else WorkerDied(f"supervision failed: {error!r}")
        with self._changed:
            if self._stopping:
                return NotReady(f"{self.name}: stopped")
            if self._state is WorkerState.BACKING_OFF:
                return failure
            if self._engine is not None:
                self._engine.process.signal_end()
            self.faults += 1
            self._alone = _ALONE_AFTER_FAULT
            self.last_failure = str(failure)
            delay = self._backoff.failed()
            self._enter(WorkerState.BACKING_OFF)
        failures = self._backoff.failures
        if failures & (failures - 1) == 0:  # the 1st, 2nd, 4th, 8th ... in a row: a lasting fault fills no disk (F28)
            text = str(failure)  # not itself: whoever keeps the line would keep the pictures that failed
            log.warning("%s: %s; failure %d in a row, next start in %.1f s", self.name, text, failures, delay)
        return failure

    def _wait_back_off(self) -> None:
        with self._changed:
            while not self._stopping and (left := self._backoff.until - self._clock()) > 0:
                self._changed.wait(left)
            if not self._stopping:
                self._enter(WorkerState.STARTING)

    def _serve(self, engine: ProvenEngine) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(engine.process.fileno(), select.POLLIN)
        while True:
            requests = self._next(engine, poll)
            if not requests:
                engine.recheck()
                self.rechecks += 1
                continue
            self._work(engine, requests)
            del requests  # and with them the pictures, before the next ones are waited for
            if engine.outgrown:
                self.recycles += 1
                log.info(
                    "%s: replacing process %d, which grew to %d MB",
                    self.name,
                    engine.process.pid,
                    engine.process.resident >> 20,
                )
                with self._changed:
                    self._enter(WorkerState.STARTING)
                raise _Recycle

    def _next(self, engine: ProvenEngine, poll: select.poll) -> list[Request]:
        """The next requests in turn, for one run; none where a pause is to be used for a golden image."""

        def in_time(request: Request, pictures: int) -> bool:
            return request.deadline - self._clock() >= _BATCH_HEADROOM * pictures * engine.typical_run_s

        until = self._clock() + engine.patience_s
        while True:
            with self._changed:
                self._idle = False
                if self._stopping:
                    raise _Stop
                if requests := self._queue.take(1 if self._alone else self._settings.max_batch, in_time):
                    return requests
                left = until - self._clock()
                self._idle = left > 0
            if left <= 0:
                return []
            for descriptor, _ in poll.poll(math.ceil(left * 1000)):
                if descriptor != self._wake:
                    raise engine.process.disturbed()
                os.eventfd_read(self._wake)

    def _work(self, engine: ProvenEngine, requests: list[Request]) -> None:
        """One run for all of ``requests``."""
        first = requests[0]
        left = first.deadline - self._clock()
        if len(requests) == 1 and left < engine.typical_run_s <= first.timeout_s:
            # It waited behind others for too long. Beginning it would get a healthy engine killed at its deadline.
            first.answer.set_exception(NotReady(self._why_not()))
            return
        self._alone = max(0, self._alone - 1)
        images = first.images if len(requests) == 1 else np.concatenate([request.images for request in requests])
        try:
            patients = tuple(patient for request in requests for patient in request.patients)
            output = engine.answer(images, min(request.deadline for request in requests), patients)
        except Exception as error:
            self._fail(requests, error)
            raise
        self.typical_run_s = engine.typical_run_s
        self._backoff.worked()
        for request, share in zip(requests, output.split([len(request.images) for request in requests]), strict=True):
            request.answer.set_result(share)

    def _fail(self, requests: list[Request], error: BaseException) -> None:
        """First the engine is made unable to answer, then the callers hear of it."""
        failure = self._fault(error)
        for request in requests:
            request.answer.set_exception(failure.retold(on_images=failure.on_images and len(requests) == 1))
