"""The analysts: threads that take an arrival all the way, from its claim to its result files.

While some wait for the engine, where they share a run, others decode the next pictures or write what was answered;
more than these would only hold memory and wait longer. Every wait is also a brake: when the engine or the disk is
gone, analysts wait with their capture in hand, the queue fills, the watches wait, and the pictures stay where they are
safest: in the dermoscope's folder.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final, TypeVar

from agent.answer.pipeline import Analysis, Setting, analyse
from agent.answer.scan import Answer, ScanState
from agent.blame import CrashLedger
from agent.carrying import Carried, Ended, Finished, Load, Turns, give_up
from agent.claiming import AlreadyEnded, Claiming
from agent.intake.capture import Arrival, Capture, Unusable
from agent.intake.reasons import Reason, Rejection, refuse
from agent.intake.sidecar import Sidecar
from agent.pace import Pace
from agent.publish import publish
from agent.records.sidecars import read_kept_sidecar
from agent.records.space import SpaceGuard
from agent.records.store import Store, StoreFaulty, StoreFull
from agent.upkeep.progress import Pulse
from engines.backend import EngineError
from engines.ladder import LadderExhausted

__all__ = ["ANALYSTS", "Analysts", "Finished"]

log = logging.getLogger(__name__)

ANALYSTS: Final = 6
"""Threads that carry captures: some wait for the engine, and share its run, while others decode or write.

With a slow engine fewer are at work (`agent.pace`): captures that wait in their folder are late for nobody."""
MAX_CRASHES: Final = 3
"""Analyses of one capture that may end with the whole process before the capture is refused (a poisonous file)."""
MAX_ENGINE_FAULTS: Final = 3
"""Times one capture may bring down a healthy engine before it is refused."""
MAX_BROKEN_OFF: Final = 16
"""Captures held in memory to be tried again; older ones are taken up at the next start."""
FULL_RETRY_S: Final = 5.0
ASLEEP_S: Final = 60.0
"""An analyst without work sleeps until it is woken, and looks about now and then all the same."""
REQUESTS: Final = 4
"""Requests of the API in work at once, at most: analysts that are left for a folder's captures."""
HAND_OVER_S: Final = 0.001
"""For the thread that waits for an answer to take it, before this one goes on: Python would let it have its turn after
5 ms."""
REQUESTS_SHARE: Final = 0.1
"""Of a deadline, that a folder's capture may find itself waiting for requests that were begun before it came."""

T = TypeVar("T")


class _Stopping(Exception):
    """The daemon was asked to stop while a capture waited; it stays as it is and is taken up at the next start."""


class Analysts:
    """A few threads and the bounded queue they take arrivals from. Start once; set ``stop`` and join."""

    def __init__(
        self,
        store: Store,
        setting: Setting,
        ledger: CrashLedger,
        space: SpaceGuard,
        *,
        stop: threading.Event,
        on_finished: Callable[[Finished], None] | None = None,
        look_on: Callable[[Analysis], None] = lambda _: None,
    ) -> None:
        """Make the threads.

        ``on_finished`` is called from an analyst's thread after each commit, and must be quick; ``look_on`` with each
        analysis once its files are written.
        """
        self._look_on = look_on
        self._store = store
        self._setting = setting
        self._ledger = ledger
        self._space = space
        self._stop = stop
        self._on_finished = on_finished
        self._turns = Turns(ANALYSTS, self._requests_at_once)
        self._broken_off: deque[Carried] = deque(maxlen=MAX_BROKEN_OFF)
        self._pace = Pace(ANALYSTS)
        self._in_hand: set[str] = set()
        self._in_hand_changed = threading.Condition()
        self.pulse = Pulse()
        """At work while a picture is analysed, which has to end (F25)."""
        self._threads = [
            threading.Thread(target=self._work, name=f"analyst-{number}", daemon=True) for number in range(ANALYSTS)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def use(self, setting: Setting) -> None:
        """Analyse with another setting from now on; an analysis that has begun keeps its own."""
        self._setting = setting

    def join(self) -> None:
        """Wait for the threads to end, once ``stop`` is set: captures in hand come to their end or stay received."""
        self._turns.leave_off()
        with self._in_hand_changed:
            self._in_hand_changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._turns.close()

    def has_in_hand(self, identity: str) -> bool:
        """Whether a capture of this content is being carried now."""
        with self._in_hand_changed:
            return identity in self._in_hand

    def try_again(self) -> None:
        """Take up the captures whose analysis broke off by a fault of ours."""
        for _ in range(len(self._broken_off)):
            carried = self._broken_off.popleft()
            if carried.asked:
                self._turns.again(carried)
            else:
                self.deliver(carried.arrival)

    def deliver(self, arrival: Arrival) -> None:
        """Put what came from a folder in the queue, waiting for room; gives up when asked to stop."""
        carried = Carried(arrival)
        while not self._stop.is_set() and not self._turns.put(carried, 0.2):
            continue

    def ask(self, capture: Capture) -> Future[Ended]:
        """Have a capture carried that did not come from a folder; folders' captures go first (`agent.carrying`).

        Raises:
            Busy: too many wait already.
            Stopped: the agent stops.
        """
        return self._turns.ask(capture)

    def load(self) -> Load:
        """How many captures are in work, and how many wait for that."""
        return self._turns.load()

    def _work(self) -> None:
        while not self._stop.is_set():
            if (carried := self._turns.take(ASLEEP_S)) is None:
                continue
            try:
                self._stop_if_asked()
                self._carry(carried)
            except _Stopping:
                give_up(carried)
                return
            except Exception:
                # A fault of ours must not stop the next capture; this one is still "received" and is taken up again.
                log.exception(
                    "%s: the analysis broke off unexpectedly; it will be tried again", carried.arrival.identity
                )
                self._broken_off.append(carried)
            finally:
                self._turns.done(carried)

    def _carry(self, carried: Carried) -> None:
        """Take one arrival to its end."""
        arrival = carried.arrival
        self._wait_for_room()
        self._take_in_hand(arrival.identity)
        try:
            claiming = self._insist(partial(self._claim, arrival))
            try:
                self._finish(carried, claiming)
            except AlreadyEnded:
                if carried.ended is not None:
                    carried.ended.set_result(Ended(claiming.scan_id, None))
        finally:
            with self._in_hand_changed:
                self._in_hand.discard(arrival.identity)
                self._in_hand_changed.notify_all()

    def _wait_for_room(self) -> None:
        """Hold intake while the quota is nearly used up: pictures wait in their folder, no answer is lost (F06)."""
        while self._space.full():
            log.error("%s", self._space.sentence())
            if self._stop.wait(FULL_RETRY_S):
                raise _Stopping

    def _take_in_hand(self, identity: str) -> None:
        """Wait while another analyst has the same content in hand (the same picture under two names)."""
        with self._in_hand_changed:
            while identity in self._in_hand:
                if self._stop.is_set():
                    raise _Stopping
                self._in_hand_changed.wait(0.2)
            self._in_hand.add(identity)

    def _claim(self, arrival: Arrival) -> Claiming:
        sha256 = arrival.sha256 if isinstance(arrival, Capture) else None
        return Claiming(
            self._store.scan_id_of(arrival.identity),
            lambda: self._store.claim(arrival.identity, sha256, arrival.path, arrival.dermoscope_id, arrival.stamp),
        )

    def _finish(self, carried: Carried, claiming: Claiming) -> None:
        scan_id = claiming.scan_id
        try:
            analysis = self._analyse(carried.arrival, claiming)
        except Rejection as rejection:
            self._insist(claiming.durable)
            self._reject(carried, scan_id, rejection)
            return
        answer = analysis.answer
        text = answer.model_dump_json()
        self._insist(lambda: self._store.answer(scan_id, text, answer.backend, analysis.about).result())
        self._tell(carried, scan_id, answer, None)
        self._space.wrote(publish(self._store, scan_id, analysis))
        self._look_on(analysis)

    def _reject(self, carried: Carried, scan_id: str, rejection: Rejection) -> None:
        self._insist(lambda: self._store.reject(scan_id, rejection.reason, rejection.sentence).result())
        self._tell(carried, scan_id, None, rejection)
        self._space.wrote(publish(self._store, scan_id, None))

    def _analyse(self, arrival: Arrival, claiming: Claiming) -> Analysis:
        if isinstance(arrival, Unusable):
            raise arrival.rejection
        scan_id = claiming.scan_id
        if self._ledger.crashes(scan_id) >= MAX_CRASHES:
            self._insist(claiming.durable)  # what has ended before is not begun again, whatever is remembered of it
            self._ledger.forget(scan_id)
            raise refuse(Reason.CRASHED_ANALYSIS, times=MAX_CRASHES)

        def sidecar() -> Sidecar:
            return read_kept_sidecar(arrival.path, self._store.seal)

        faults = 0
        while True:
            while not (setting := self._setting).ladder.wait_ready(0.0):
                self._insist(claiming.settle)  # it may take long: the capture is to be known meanwhile
                setting.ladder.wait_ready(0.5)
                self._stop_if_asked()
            try:
                with (
                    self._pace.inside(partial(self._at_once, setting), self._stop_if_asked),
                    self._ledger.analysing(scan_id) as waiting,
                    self.pulse.at_work(),
                ):
                    return analyse(arrival, setting, scan_id, sidecar, partial(claiming.before, waiting))
            except (StoreFull, StoreFaulty):
                self._insist(claiming.durable)
            except EngineError as error:
                faults += isinstance(error, LadderExhausted) and error.engine_was_healthy
                log.warning("scan %s: no engine answered: %s", scan_id, error)
                if faults >= MAX_ENGINE_FAULTS:
                    raise refuse(Reason.ENGINE_FAILED, times=MAX_ENGINE_FAULTS) from error
            self._stop_if_asked()

    def _at_once(self, setting: Setting) -> int:
        return self._pace.limit(setting.ladder.typical_run_s, setting.deadline_s)

    def _requests_at_once(self) -> int:
        """As many as take a tenth of a deadline together; two at least, one to wait and one to be worked on."""
        setting = self._setting
        run_s = setting.ladder.typical_run_s
        return 2 if not run_s else max(2, min(REQUESTS, int(REQUESTS_SHARE * setting.deadline_s / run_s)))

    def _stop_if_asked(self) -> None:
        if self._stop.is_set():
            raise _Stopping

    def _insist(self, operation: Callable[[], T]) -> T:
        """Do a store operation, however long the store is full or its disk fails: no answer is dropped for that."""
        while True:
            try:
                return operation()
            except (StoreFull, StoreFaulty) as error:
                log.error("the store cannot write: %s", error)  # noqa: TRY400 - the sentence says it all
                if self._stop.wait(FULL_RETRY_S):
                    raise _Stopping from error

    def _tell(self, carried: Carried, scan_id: str, answer: Answer | None, rejection: Rejection | None) -> None:
        committed = time.monotonic()
        if answer is not None:
            log.info("scan %s answered by %s in %.0f ms", scan_id, answer.backend, answer.latency_ms)
        elif rejection is not None:
            log.info("scan %s rejected: %s", scan_id, rejection.reason.value)
        finished = Finished(
            scan_id=scan_id,
            state=ScanState.ANSWERED if answer is not None else ScanState.REJECTED,
            path=carried.arrival.path,
            dermoscope_id=carried.arrival.dermoscope_id,
            answer=answer,
            reason=rejection.reason if rejection else None,
            sentence=rejection.sentence if rejection else None,
            committed=committed,
        )
        if self._on_finished is not None:
            self._on_finished(finished)
        if carried.ended is not None:  # last: a verdict on the answer is told after the answer
            carried.ended.set_result(Ended(scan_id, finished))
            time.sleep(HAND_OVER_S)
