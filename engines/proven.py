"""An engine under proof: a worker process whose every answer is judged, and which must pass its golden image (F12)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engines.backend import BackendSpec, EngineError, Images, Output, Patients
from engines.golden import GoldenCheck, check_output
from engines.process import WorkerProcess


@dataclass(frozen=True)
class WorkerSettings:
    """Times in seconds, memory in bytes."""

    start_timeout_s: float = 60.0
    """For opening the backend, and again for its first golden image."""
    golden_timeout_s: float = 5.0
    """For the golden image later on; at least ten usual runs are always granted."""
    recheck_every: int = 100
    """Pictures after which the golden image must pass before the last of them is answered."""
    quiet_s: float = 0.25
    """After half as many, the first pause of this length is used instead, so that nobody waits for the check.

    Longer than the gaps within a burst, and over, with the check itself, before a person has taken the next picture: at
    1 s the check met the next picture of whoever takes one about every second."""
    idle_recheck_s: float = 60.0
    """Pause after which the golden image is run whatever the count; without any work, every tenth such pause."""
    max_batch: int = 4
    """Pictures of callers who wait at the same time that share one run."""
    growth_bytes: int = 256 << 20
    growth_share: float = 0.5
    """The process is replaced once it grew by more than the larger of both since its first golden image (F23)."""


class ProvenEngine:
    """One worker process from its start to its end. Any :class:`EngineError` makes it suspect: end it."""

    def __init__(
        self,
        spec: BackendSpec,
        golden: GoldenCheck,
        settings: WorkerSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the process; :meth:`prove` it before use."""
        self.process = WorkerProcess(spec, clock)
        self._golden, self._settings, self._clock = golden, settings, clock
        self._runs = 0
        self._memory_limit = 0.0
        self.rechecks = 0
        """Golden images passed after the first."""
        self.typical_run_s = 0.0
        """Moving average of the run time of a single picture."""

    def _run(self, images: Images, deadline: float, patients: Patients = ()) -> Output:
        started = self._clock()
        output = self.process.run(images, deadline, patients)
        check_output(output, len(images))
        if len(images) == 1:
            took = self._clock() - started
            self.typical_run_s += (took - self.typical_run_s) * (0.2 if self.typical_run_s else 1.0)
        return output

    def _run_golden(self, timeout_s: float) -> None:
        try:
            self._golden.check(self._run(self._golden.images, self._clock() + timeout_s))
        except EngineError as error:
            raise type(error)(f"golden image: {error}") from error
        self._runs = 0

    def prove(self) -> None:
        """Wait for the backend and run the golden image; only then may it be asked.

        Raises:
            EngineError: it cannot be opened, hangs, ends, or computes wrong numbers.
        """
        limit = self._settings.start_timeout_s
        self.process.wait_loaded(self._clock() + limit)
        self._run_golden(limit)
        base = self.process.resident
        self._memory_limit = base + max(self._settings.growth_bytes, base * self._settings.growth_share)

    def recheck(self) -> None:
        """Run the golden image again; an engine gone wrong raises :class:`EngineError`."""
        self._run_golden(max(self._settings.golden_timeout_s, 10 * self.typical_run_s))
        self.rechecks += 1

    def answer(self, images: Images, deadline: float, patients: Patients = ()) -> Output:
        """Run the model and judge what it gives; ``patients`` are for a remote backend.

        Every ``recheck_every`` pictures the golden image follows at once, and only its passing releases the answer.

        Raises:
            EngineError: with ``on_images`` set where it failed on these images, unset where it failed its golden image.
        """
        try:
            output = self._run(images, deadline, patients)
        except EngineError as error:
            error.on_images = True
            raise
        self._runs += len(images)
        if self._runs >= self._settings.recheck_every:
            self.recheck()
        return output

    @property
    def patience_s(self) -> float:
        """How long a pause may last before it is used for a golden image."""
        if 2 * self._runs >= self._settings.recheck_every:
            return self._settings.quiet_s
        return self._settings.idle_recheck_s * (1.0 if self._runs else 10.0)

    @property
    def outgrown(self) -> bool:
        """Whether the process takes so much more memory than at first that it is to be replaced (F23)."""
        return self.process.resident > self._memory_limit
