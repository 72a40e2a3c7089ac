"""The ladder: engines in order of preference, one deadline shared out among them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from engines.backend import BackendSpec, EngineError, Images, Output, Patients
from engines.backoff import Backoff
from engines.bundle import Bundle
from engines.cloud.rung import CloudSettings
from engines.cloud.rung import open_rung as open_cloud
from engines.golden import golden_check
from engines.proven import WorkerSettings
from engines.supervisor import Worker

GRACE_S: Final = 10.0
"""By how much the last rung may overrun the deadline: a late answer is better than none."""
UNKNOWN_SHARE: Final = 0.3
"""Share of the deadline kept for a rung below whose run time is not known yet."""
LEAST_FOR_LAST: Final = 0.3
"""Share of the deadline that is kept for the last rung, however quick it usually is."""
HEADROOM: Final = 1.5
"""A rung is granted this many of its usual run times."""


class Runner(Protocol):
    """What can stand on a rung; :class:`engines.supervisor.Worker` is one."""

    def start(self) -> None:
        """Begin to get ready; returns at once."""

    def stop(self) -> None:
        """Give everything back."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until it takes work."""

    def run(self, images: Images, timeout_s: float) -> Output:
        """Run the model or raise :class:`EngineError`."""

    @property
    def ready(self) -> bool:
        """Whether it takes work."""

    @property
    def typical_run_s(self) -> float | None:
        """Its usual run time in seconds, if known."""

    @property
    def last_failure(self) -> str | None:
        """What keeps it from being ready, in a sentence, if known; once it is ready, what did before."""


@runtime_checkable
class RemoteRunner(Runner, Protocol):
    """A runner that asks another machine, which is told whose the pictures are, by pseudonym."""

    def run_for(self, images: Images, timeout_s: float, patients: Patients) -> Output:
        """Run the model, with one pseudonym or None for each image, or raise :class:`EngineError`."""


@dataclass(frozen=True)
class Rung:
    """A runner and its name in the configuration and in answers."""

    name: str
    runner: Runner
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True)
class LadderResult:
    """An answer, and how it came about."""

    output: Output
    backend: str
    passed_over: tuple[tuple[str, str], ...]
    """(rung, why it did not answer), in the order tried."""
    run_ms: float
    """Of the rung that answered."""


class LadderExhausted(EngineError):
    """No rung answered. ``reasons`` says why, rung by rung."""

    def __init__(self, reasons: tuple[tuple[str, str], ...], *, engine_was_healthy: bool) -> None:
        super().__init__("no engine answered: " + "; ".join(f"{name}: {why}" for name, why in reasons))
        self.reasons = reasons
        self.engine_was_healthy = engine_was_healthy
        """True only where an engine that had passed its golden image failed on these very images: the picture may be to
        blame. False: it never was the picture's turn, or the engine turned out to be wrong; try the capture again."""


@dataclass(frozen=True)
class _Failure:
    rung: str
    why: str
    on_images: bool = False


def _in_words(failures: Sequence[_Failure]) -> tuple[tuple[str, str], ...]:
    return tuple((failure.rung, failure.why) for failure in failures)


class Ladder:
    """Runs images on the first rung that answers."""

    def __init__(
        self, rungs: Sequence[Rung], *, clock: Callable[[], float] = time.monotonic, grace_s: float = GRACE_S
    ) -> None:
        if not rungs:
            raise ValueError("a ladder needs at least one rung")
        self.rungs, self._clock, self._grace_s = tuple(rungs), clock, grace_s

    def start(self) -> None:
        """Start every rung: those below are kept warm."""
        for rung in self.rungs:
            rung.runner.start()

    def exchange(self, name: str, runner: Runner) -> None:
        """Start another runner in place of a rung's: what that one is at fails, and is tried below."""
        runner.start()
        before = [rung for rung in self.rungs if rung.name == name]
        self.rungs = tuple(Rung(name, runner) if rung in before else rung for rung in self.rungs)
        for rung in before:
            rung.runner.stop()

    def stop(self) -> None:
        """Stop every rung."""
        for rung in self.rungs:
            rung.runner.stop()

    @property
    def ready(self) -> bool:
        """Whether any rung takes work."""
        return any(rung.runner.ready for rung in self.rungs)

    @property
    def typical_run_s(self) -> float | None:
        """Usual run time of the rung that answers now, in seconds; None while none is ready."""
        return next((rung.runner.typical_run_s for rung in self.rungs if rung.runner.ready), None)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait for the last rung, the one that is always there; True also where another one is ready."""
        return self.rungs[-1].runner.wait_ready(timeout_s) or self.ready

    def _share(self, index: int, left: float, deadline_s: float) -> float:
        """Seconds that rung ``index`` may take, so that those below can still finish."""
        below = [rung.runner.typical_run_s for rung in self.rungs[index + 1 :]]
        kept = [UNKNOWN_SHARE * deadline_s if usual is None else HEADROOM * usual for usual in below]
        # An engine that usually takes a moment may be slow just now; ended for that, its second try is late (F26).
        return left - sum(kept[:-1]) - max(kept[-1], LEAST_FOR_LAST * deadline_s)

    @staticmethod
    def _unfit(rung: Rung, share: float) -> str | None:
        """Why an upper rung is not tried, if so."""
        if not rung.backoff.over:
            return "left alone for a while after a failure"
        if not rung.runner.ready:
            why = rung.runner.last_failure
            return f"not ready: {why}" if why else "not ready"
        if share <= 0 or share < (rung.runner.typical_run_s or 0.0):
            return "would not finish in its share of the deadline"
        return None

    def run(self, images: Images, deadline_s: float, patients: Callable[[], Patients] | None = None) -> LadderResult:
        """Run ``images`` (``[N, 3, S, S]`` float32) within ``deadline_s`` seconds from now.

        Upper rungs that are not ready, backing off or too slow for their share are passed over. The last rung is always
        tried, twice if need be, and may take up to ``grace_s`` longer rather than lose the answer.

        ``patients`` gives a pseudonym or None for each image; it is asked only where a remote rung is tried.

        Raises:
            LadderExhausted: no rung answered.
        """
        end = self._clock() + deadline_s
        failures: list[_Failure] = []
        for index, rung in enumerate(self.rungs[:-1]):
            share = self._share(index, end - self._clock(), deadline_s)
            if (why := self._unfit(rung, share)) is not None:
                failures.append(_Failure(rung.name, why))
            elif (result := self._try(rung, images, share, failures, patients)) is not None:
                return result
        last = self.rungs[-1]
        for final in (False, True):
            share = self._last_share(last, end - self._clock(), final=final)
            if share > 0 and (result := self._try(last, images, share, failures, patients)) is not None:
                return result
        raise LadderExhausted(_in_words(failures), engine_was_healthy=any(failure.on_images for failure in failures))

    def _try(
        self,
        rung: Rung,
        images: Images,
        share: float,
        failures: list[_Failure],
        patients: Callable[[], Patients] | None,
    ) -> LadderResult | None:
        """Run on one rung; None after a failure, which is added to ``failures``."""
        started = self._clock()
        try:
            if patients is not None and isinstance(rung.runner, RemoteRunner):
                output = rung.runner.run_for(images, share, patients())
            else:
                output = rung.runner.run(images, share)
        except EngineError as error:
            failures.append(_Failure(rung.name, str(error), error.on_images))
            rung.backoff.failed()
            return None
        rung.backoff.worked()
        return LadderResult(output, rung.name, _in_words(failures), (self._clock() - started) * 1e3)

    def _last_share(self, rung: Rung, left: float, *, final: bool) -> float:
        """Seconds for the last rung: the first try ends so that a hang leaves time for another, which gets all."""
        if final or not rung.runner.ready:
            return left + self._grace_s
        return min(max(left, 3 * HEADROOM * (rung.runner.typical_run_s or 0.0)), left + self._grace_s)


@dataclass(frozen=True)
class _Making:
    """What rungs are made from."""

    bundle: Bundle
    threads: int
    settings: WorkerSettings | None
    cache: Path
    cloud: CloudSettings | None


def _cpu(making: _Making) -> Runner:
    spec = BackendSpec("cpu", "engines.onnx_cpu:open_backend", making.bundle.folder, {"threads": making.threads})
    return Worker(spec, golden_check(making.bundle), settings=making.settings)


def _tensorrt(making: _Making) -> Runner:
    from engines.tensorrt.rung import open_rung  # a ladder without this rung needs nothing of it

    return open_rung(making.bundle, making.cache, settings=making.settings)


def _cloud(making: _Making) -> Runner:
    if making.cloud is None:
        raise ValueError("a ladder with the cloud on it needs to be told which; add a [cloud] section to the settings")
    return open_cloud(making.bundle, making.cloud, settings=making.settings)


_MAKERS: Final[Mapping[str, Callable[[_Making], Runner]]] = {"tensorrt": _tensorrt, "cloud": _cloud, "cpu": _cpu}
RUNG_NAMES: Final = tuple(_MAKERS)


def _usual_cache() -> Path:
    """The service manager's cache folder for this service, else the user's."""
    if given := os.environ.get("CACHE_DIRECTORY"):
        return Path(given.split(":")[0])
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dermascan"


def open_ladder(
    names: Sequence[str],
    bundle: Bundle,
    *,
    threads: int = 0,
    settings: WorkerSettings | None = None,
    cache: Path | None = None,
    cloud: CloudSettings | None = None,
) -> Ladder:
    """The ladder of the configuration's ``inference.ladder``, not started yet.

    Args:
        names: rungs from the most to the least preferred.
        bundle: the checked bundle that every rung runs.
        threads: CPU threads of the ``cpu`` rung; 0 means all cores.
        settings: the workers' limits, if not the usual ones.
        cache: folder for what is compiled on this device; None takes the service's or the user's usual one.
        cloud: how the ``cloud`` rung's cloud is asked.

    Raises:
        ValueError: an unknown or repeated name, or none at all, or no cloud for its rung; the message says what is
            allowed.
        BundleError: the golden image cannot be decoded.
    """
    unknown = [name for name in names if name not in _MAKERS]
    if unknown or not names or len(set(names)) != len(names):
        raise ValueError(f"a ladder is a list of different names out of {list(RUNG_NAMES)}, not {list(names)}")
    making = _Making(bundle, threads, settings, cache or _usual_cache(), cloud)
    return Ladder([Rung(name, _MAKERS[name](making)) for name in names])
