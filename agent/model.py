"""The model that runs: which bundle, on which ladder, and its exchange for another while captures go on (F27).

A provisional bundle is tried beside the committed one, which goes on answering until the new one is as ready as it is.
Then the new one answers, and for a while the old one is kept warm. At the first doubt the agent goes back and writes
down why; otherwise the new bundle is committed. An analysis has one bundle and that bundle's ladder from its beginning
to its end, so that an answer never mixes two.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Final

from agent.config import InferenceSection
from agent.trial import FAULTS_AT_WORK, FAULTS_WHEN_NEW, PATIENCE_S, PROBATION_S, Engine, Trial, behind, failing, faults
from engines.backend import BundleError
from engines.bundle import Bundle, load_bundle
from engines.installed.activation import Activation, Installed, commit, give_up, try_provisional, untry
from engines.installed.catalogue import load_installed
from engines.installed.ledger import Ledger, Stamp
from engines.ladder import GRACE_S, Ladder

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0


def choose_bundle(inference: InferenceSection) -> Bundle:
    """The bundle for a run without the daemon: the one that the settings name, or the active one.

    Raises:
        BundleError: it cannot be used, or none was ever activated.
    """
    if inference.bundle is not None:
        return load_bundle(inference.bundle, trust=inference.trust)
    ledger = _ledger(inference)
    state = ledger.read()
    installed = state.active or state.provisional
    if installed is None:
        raise _nothing_active(ledger)
    return load_installed(ledger.models, installed, inference.trust)


def _ledger(inference: InferenceSection) -> Ledger:
    if inference.models is None:
        raise BundleError("inference.bundle: is missing; name a bundle's folder, or give inference.models instead")
    return Ledger(inference.models)


def _nothing_active(ledger: Ledger) -> BundleError:
    return BundleError(f"{ledger.models}: no bundle is active here; install one with: dermascan engine activate BUNDLE")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class RunningModel:
    """Owns the ladders. Start it once, stop it once; what happens in between happens on its own thread."""

    def __init__(
        self,
        inference: InferenceSection,
        open_ladder: Callable[[Bundle], Ladder],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inference, self._open_ladder, self._clock = inference, open_ladder, clock
        self._ledger = None if inference.bundle is not None else _ledger(inference)
        self._serving: Engine | None = None
        self._trial: Trial | None = None
        self._leaving: list[tuple[float, Ladder]] = []
        self._seen: Stamp | None = None
        self._on_exchange: Callable[[Bundle, Ladder], None] = lambda _bundle, _ladder: None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="model", daemon=True)

    @property
    def serving(self) -> Engine:
        """What answers now."""
        if self._serving is None:
            raise RuntimeError("the model was not started")
        return self._serving

    @property
    def trial(self) -> Trial | None:
        """The bundle on its way into use, if there is one."""
        return self._trial

    def start(self) -> None:
        """Load the bundle and start its ladder; returns before that is ready.

        Raises:
            BundleError: no bundle can be used.
        """
        if self._ledger is None:
            self._serving = self._begin(choose_bundle(self._inference), None)
            return
        self._serving = self._committed(self._ledger)
        try:
            self._follow(self._ledger)
        except BundleError as error:
            if self._serving is None:
                raise
            log.error("%s; the committed bundle goes on", error)  # noqa: TRY400 - the sentence says it all
        if self._serving is None:
            if self._trial is None:
                raise _nothing_active(self._ledger)
            self._serving = self._trial.engine  # nothing else can answer; it does once its golden image is right

    def follow(self, on_exchange: Callable[[Bundle, Ladder], None]) -> None:
        """Follow the models folder from now on; ``on_exchange`` is called when another bundle answers."""
        self._on_exchange = on_exchange
        if self._ledger is not None:
            self._thread.start()

    def stop(self) -> None:
        """Stop every ladder. A trial that ends this way does not count against its bundle."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        trial = self._trial
        if trial is not None and trial.provisional:
            installed = trial.installed
            self._write(lambda state: untry(state, installed))
        engines = [self._serving, *((trial.engine, trial.fallback) if trial else ())]
        ladders = [engine.ladder for engine in engines if engine is not None] + [ladder for _, ladder in self._leaving]
        for ladder in ladders:
            ladder.stop()  # a second time does nothing

    def look(self) -> None:
        """Look once at the models folder and at the trial, and do what is due."""
        now = self._clock()
        for due in [entry for entry in self._leaving if entry[0] <= now]:
            self._leaving.remove(due)
            due[1].stop()
        if self._trial is not None:
            self._judge(self._trial, now)
        if self._ledger is not None:
            self._follow(self._ledger)

    def _keep_looking(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except Exception:  # the model that answers must not end with its watch
                log.exception("looking after the model broke off; it goes on")

    def _begin(self, bundle: Bundle, installed: Installed | None) -> Engine:
        ladder = self._open_ladder(bundle)
        ladder.start()
        return Engine(bundle, ladder, installed)

    def _committed(self, ledger: Ledger) -> Engine | None:
        state = ledger.read()
        if state.active is None:
            return None
        try:
            return self._begin(load_installed(ledger.models, state.active, self._inference.trust), state.active)
        except BundleError as error:
            if state.provisional is None:
                raise
            log.error("the committed bundle cannot be used, and the provisional one is tried: %s", error)  # noqa: TRY400
            return None

    def _write(self, step: Callable[[Activation], Activation]) -> bool:
        """Write a step down; a disk that is full or a folder that is read-only is logged, and ends nothing."""
        try:
            if self._ledger is not None:
                self._ledger.change(step)
        except BundleError as error:
            log.error("%s", error)  # noqa: TRY400 - the sentence says it all
            return False
        return True

    # Following the models folder

    def _follow(self, ledger: Ledger) -> None:
        if (stamp := ledger.stamp()) == self._seen:
            return
        self._seen = stamp
        state = ledger.read()
        trial = self._trial
        if trial is not None:
            if trial.installed == (state.provisional if trial.provisional else state.active):
                return
            log.warning("%s was taken back in the models folder", trial.engine.bundle.label)
            self._leave(trial)
        if state.provisional is not None:
            self._try(ledger, state.provisional, provisional=True)
        elif state.active is not None and (self._serving is None or state.active != self._serving.installed):
            self._try(ledger, state.active, provisional=False)

    def _try(self, ledger: Ledger, installed: Installed, *, provisional: bool) -> None:
        """Begin to get a bundle ready beside the one that answers."""
        if provisional:
            state = ledger.change(lambda state: try_provisional(state, _now()))
            if state.provisional != installed:
                failure = state.failure_of(installed)
                log.error("%s was given up: %s", installed.bundle, failure.reason if failure else "taken back")
                return
        try:
            engine = self._begin(load_installed(ledger.models, installed, self._inference.trust), installed)
        except BundleError as error:
            reason = str(error)
            log.error("%s cannot be tried: %s", installed.bundle, reason)  # noqa: TRY400
            self._write(lambda state: give_up(state, installed, reason, _now()))
            return
        self._trial = Trial(engine, installed, provisional, self._clock())
        log.info("%s: getting ready%s", engine.bundle.label, ", on trial" if provisional else "")

    # The trial

    def _judge(self, trial: Trial, now: float) -> None:
        ladder = trial.engine.ladder
        if not trial.answers:
            if (why := failing(ladder, FAULTS_WHEN_NEW)) is not None:
                self._fail(trial, why)
            elif ladder.ready and (now - trial.since >= PATIENCE_S or not behind(ladder, self.serving.ladder)):
                self._let_answer(trial, now)
        elif (why := failing(ladder, trial.faults_before + FAULTS_AT_WORK)) is not None:
            self._fail(trial, why)
        elif now - trial.since >= PROBATION_S:
            if not self._write(lambda state: commit(state, trial.installed, _now())):
                trial.since = now  # it goes on answering, and this is tried again
                return
            log.info("%s: committed", trial.engine.bundle.label)
            self._trial = None
            self._retire(trial.fallback)

    def _let_answer(self, trial: Trial, now: float) -> None:
        trial.answers, trial.since, trial.faults_before = True, now, faults(trial.engine.ladder)
        if self._serving is not trial.engine:
            trial.fallback = self._serving
        self._exchange(trial.engine)
        if not trial.provisional:
            self._trial = None
            self._retire(trial.fallback)

    def _fail(self, trial: Trial, why: str) -> None:
        log.error("%s is given up: %s", trial.engine.bundle.label, why)
        self._leave(trial, failed=True)
        if trial.provisional:
            self._write(lambda state: give_up(state, trial.installed, why, _now()))

    def _leave(self, trial: Trial, *, failed: bool = False) -> None:
        """End a trial: what answered before answers again; where there was nothing, captures wait for a bundle."""
        self._trial = None
        if trial.fallback is not None:
            self._exchange(trial.fallback)
        if trial.answers and not failed:
            self._retire(trial.engine)
        else:
            trial.engine.ladder.stop()  # what it was asked and has not answered is asked of the other one

    def _exchange(self, engine: Engine) -> None:
        if self._serving is not engine:
            self._serving = engine
            self._on_exchange(engine.bundle, engine.ladder)
            log.warning("%s answers from now on", engine.bundle.label)

    def _retire(self, engine: Engine | None) -> None:
        """Stop a ladder once the analyses that began on it must be over."""
        if engine is not None:
            self._leaving.append((self._clock() + self._inference.deadline_s + 2 * GRACE_S, engine.ladder))
