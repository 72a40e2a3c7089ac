"""The ladder's TensorRT rung: a child process gets a proved plan ready, off the hot path; a worker then runs it.

No GPU, no driver, no TensorRT, a plan that cannot be built or gives wrong numbers: the reason is logged and told in
each answer, the rungs below answer meanwhile, and it is tried again later (F13, F14). A plan answers only after its
first-load verification (in the child) and the golden image (in the worker, see ``engines.supervisor``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from engines.backend import BackendSpec, Images, NotReady, Output
from engines.backoff import Backoff
from engines.bundle import Bundle
from engines.golden import GoldenCheck, golden_check
from engines.proven import WorkerSettings
from engines.supervisor import Worker
from engines.tensorrt.preparation import Failed, Order, Preparation, Prepared

log = logging.getLogger(__name__)

FACTORY: Final = "engines.tensorrt.backend:open_backend"
_STOP_TIMEOUT_S: Final = 20.0
_STEP_S: Final = 0.5
"""How long it does not notice that it is stopped, while its worker is not ready."""


def _soon() -> Backoff:
    """Looking for a GPU costs a twentieth of a second."""
    return Backoff(base_s=2.0, cap_s=60.0)


def _late() -> Backoff:
    """Compiling costs minutes, and what failed once mostly fails again."""
    return Backoff(base_s=30.0, cap_s=6 * 3600.0)


@dataclass(frozen=True)
class RungSettings:
    """Times in seconds."""

    factory: str = FACTORY
    prepare: Callable[[Order], Preparation] = Preparation
    """Starts the child that gets a plan ready."""
    prepare_timeout_s: float = 7200.0
    """For compiling and verifying: a Jetson Orin Nano takes tens of minutes."""
    look_s: float = 5.0
    """How often the worker is looked after."""
    doubt_after: int = 3
    """Failures of the worker in a row after which its plan is proved again, or made anew."""
    soon: Callable[[], Backoff] = field(default=_soon)
    """Where no GPU could be had."""
    late: Callable[[], Backoff] = field(default=_late)
    """Where there is one, and no plan for it that may answer."""


class TensorRtRung:
    """A runner of the ladder. Every method may be called from any thread."""

    def __init__(
        self,
        order: Order,
        golden: GoldenCheck,
        *,
        settings: WorkerSettings | None = None,
        rung: RungSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._order, self._golden, self._clock = order, golden, clock
        self._settings = settings or WorkerSettings()
        self._rung = rung or RungSettings()
        self._soon, self._late = self._rung.soon(), self._rung.late()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._worker: Worker | None = None
        self._child: Preparation | None = None
        self._given_up = False
        """Between two tries: whoever waits, waits in vain."""
        self._why: str | None = "not started"
        self._said: str | None = None
        self._earlier_faults = 0
        self.preparations = 0
        """Children started to get a plan ready."""

    @property
    def ready(self) -> bool:
        """Whether an engine has passed everything and takes work."""
        worker = self._worker
        return worker is not None and worker.ready

    @property
    def typical_run_s(self) -> float | None:
        """The engine's usual run time in seconds; None before the first."""
        worker = self._worker
        return worker.typical_run_s if worker else None

    @property
    def last_failure(self) -> str | None:
        """What keeps it from answering, in a sentence; None once an engine runs that never failed."""
        worker = self._worker
        return (worker and worker.last_failure) or self._why

    @property
    def faults(self) -> int:
        """Failed tries to get a plan ready, and faults of engines."""
        worker = self._worker
        return self._earlier_faults + (worker.faults if worker else 0)

    @property
    def worker(self) -> Worker | None:
        """The worker that runs the plan, where there is one."""
        return self._worker

    def start(self) -> None:
        """Begin to look for a GPU and a plan; returns at once."""
        with self._changed:
            if self._thread is not None:
                return
            self._stop.clear()
            self._why, self._given_up = "looking for a GPU and a compiled plan", False
            self._thread = threading.Thread(target=self._supervise, name="tensorrt-rung", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the child, the worker and the thread."""
        with self._changed:
            thread, child = self._thread, self._child
            self._stop.set()
            self._changed.notify_all()
        if thread is None:
            return
        if child is not None:
            child.kill()
        thread.join(_STOP_TIMEOUT_S)
        if thread.is_alive():
            log.error("tensorrt: the supervising thread does not end")

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until an engine is ready; False where none is within ``timeout_s``."""
        end = self._clock() + timeout_s
        worker = self._await_worker(timeout_s, lambda: False)
        return worker is not None and worker.wait_ready(max(0.0, end - self._clock()))

    def run(self, images: Images, timeout_s: float) -> Output:
        """Run the model, as :meth:`engines.supervisor.Worker.run`; waits while a plan is got ready.

        Raises:
            NotReady: there is no engine; the message says why.
            EngineError: as for a worker.
        """
        end = self._clock() + timeout_s
        worker = self._await_worker(timeout_s, lambda: self._given_up)
        if worker is None:
            raise NotReady(f"tensorrt: {self._why}")
        return worker.run(images, max(0.0, end - self._clock()))

    def _await_worker(self, timeout_s: float, in_vain: Callable[[], bool]) -> Worker | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._worker is not None or self._stop.is_set() or self._thread is None or in_vain(), timeout_s
            )
            return self._worker

    # The rest runs on the supervising thread.

    def _supervise(self) -> None:
        order = self._order
        try:
            while not self._stop.is_set():
                try:
                    order = self._one_try(order)
                except Exception as error:  # noqa: BLE001 - supervision itself must not end
                    self._failed(Failed(f"supervision failed: {error!r}", soon=False))
                self._pause()
        finally:
            with self._changed:
                self._thread = None
                self._why = "stopped"
                self._changed.notify_all()

    def _one_try(self, order: Order) -> Order:
        """Get a plan ready, and run it until it is to be doubted; returns what to order next."""
        outcome = self._prepare(order)
        if outcome is None:
            return order
        if isinstance(outcome, Failed):
            self._failed(outcome)
            return replace(order, anew=outcome.anew)
        self._work(outcome)
        self._late.failed()
        return replace(self._order, doubted=True)

    def _tell(self, why: str, *, given_up: bool = False) -> None:
        with self._changed:
            self._why, self._given_up = why, given_up
            self._changed.notify_all()

    def _tell_ready(self) -> None:
        with self._changed:
            self._why = None

    def _progress(self, doing: str, share: float | None) -> None:
        self._tell(doing if share is None else f"{doing} ({share:.0%})")

    def _prepare(self, order: Order) -> Prepared | Failed | None:
        """Have a child look for a GPU, and find or compile and prove a plan; None where it was stopped."""
        self._tell(self._why or "")  # those who ask meanwhile may wait for it again
        with self._changed:
            if self._stop.is_set():
                return None
            self._child = child = self._rung.prepare(order)
            self.preparations += 1
        try:
            outcome = child.wait(self._rung.prepare_timeout_s, self._progress)
        finally:
            with self._changed:
                self._child = None
        return None if self._stop.is_set() else outcome

    def _failed(self, outcome: Failed) -> None:
        backoff = self._soon if outcome.soon else self._late
        self._earlier_faults += 1
        delay = backoff.failed()
        self._tell(outcome.why, given_up=True)
        if outcome.why != self._said or backoff.failures & (backoff.failures - 1) == 0:  # no disk is filled (F28)
            log.warning("tensorrt: %s; try %d, next in %.1f s", outcome.why, backoff.failures, delay)
        self._said = outcome.why

    def _pause(self) -> None:
        """Wait until the back-offs are over, or it is stopped."""
        until = max(self._soon.until, self._late.until)
        while not self._stop.is_set() and (left := until - self._clock()) > 0:
            self._stop.wait(left)

    def _work(self, prepared: Prepared) -> None:
        """Run a worker on the plan until it is stopped, or the plan is to be doubted."""
        self._said = None
        for note in prepared.notes:
            log.warning("tensorrt: %s", note)
        spec = BackendSpec("tensorrt", self._rung.factory, self._order.bundle, prepared.options)
        worker = Worker(spec, self._golden, settings=self._settings, clock=self._clock)
        worker.start()
        with self._changed:
            self._worker, self._why, self._given_up = worker, "the engine is starting", False
            self._changed.notify_all()
        log.info("tensorrt: %s", prepared.what)
        try:
            self._look_after(worker)
        finally:
            worker.stop()
            with self._changed:
                self._earlier_faults += worker.faults
                self._why = f"the engine is being proved again after: {worker.last_failure}"
                self._worker = None
                self._changed.notify_all()

    def _look_after(self, worker: Worker) -> None:
        good = 0
        while not self._stop.is_set():
            if worker.wait_ready(min(self._rung.look_s, _STEP_S)):
                self._soon.worked()
                self._late.worked()
                self._tell_ready()
                good = worker.faults
                self._stop.wait(self._rung.look_s)
            elif worker.faults - good >= self._rung.doubt_after:
                log.warning("tensorrt: %d failures in a row, the last: %s", worker.faults - good, worker.last_failure)
                return


def open_rung(bundle: Bundle, cache: Path, *, settings: WorkerSettings | None = None) -> TensorRtRung:
    """The rung for a bundle whose signature was checked; not started yet.

    Raises:
        BundleError: the golden image cannot be decoded.
    """
    order = Order(bundle.folder, bundle.manifest_sha256, cache)
    usual = WorkerSettings(max_batch=order.max_batch)
    return TensorRtRung(order, golden_check(bundle), settings=settings or usual)
