"""The daemon: the one place where intake, answer and records are put together.

    FolderWatch (a thread per dermoscope) ─► arrivals (bounded) ─► analysts (a few threads) ─► Store (its own thread)
                                                                        │
                                                                   Ladder ─► worker process

An analyst takes an arrival all the way: claim, analyse, commit, tell, write the result files. While one waits for
the engine, another decodes the next picture; more than that would only hold memory. Every wait is also a brake: when
the engine or the disk is gone, analysts wait with their capture in hand, the queue fills, the watches wait, and the
pictures stay where they are safest: in the dermoscope's folder.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, TypeVar

import cv2

from agent import __version__
from agent.answer.pipeline import Analysis, Setting, analyse, merge_about
from agent.answer.scan import Answer, ScanState
from agent.config import Config, DermoscopeSection
from agent.intake.capture import Arrival, Capture, FileStamp, Unusable
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, Rejection, refuse
from agent.intake.sidecar import Sidecar, read_sidecar
from agent.intake.watch import FolderWatch
from agent.publish import publish, publish_again
from agent.records.space import SpaceGuard
from agent.records.store import Claim, ClaimOutcome, Clocks, Store, StoreFull
from engines.backend import EngineError
from engines.bundle import load_bundle
from engines.ladder import Ladder, LadderExhausted, open_ladder

log = logging.getLogger(__name__)

ANALYSTS: Final = 2
"""Threads that carry captures: one waits for the engine while the other decodes or writes."""
MAX_CRASHES: Final = 3
"""Analyses of one capture that may end with the whole process before the capture is refused (a poisonous file)."""
MAX_ENGINE_FAULTS: Final = 3
"""Times one capture may bring down a healthy engine before it is refused."""
UPKEEP_S: Final = 10.0
FULL_RETRY_S: Final = 5.0
RELEASED: Final = datetime(2026, 11, 1, tzinfo=timezone.utc)
"""No clock that shows an earlier time than this software's own can be right (F16)."""

T = TypeVar("T")


@dataclass(frozen=True)
class Finished:
    """A capture reached its end and it is committed; ``committed`` is on the monotonic clock, in seconds."""

    scan_id: str
    state: ScanState
    path: Path
    dermoscope_id: str
    answer: Answer | None
    reason: Reason | None
    sentence: str | None
    committed: float


class _Stopping(Exception):
    """The daemon was asked to stop while a capture waited; it stays as it is and is taken up at the next start."""


def clock_trusted() -> bool:
    """Whether the wall clock can be right; a Jetson without an RTC battery boots in 1970."""
    return datetime.now(timezone.utc) >= RELEASED


class Daemon:
    """Everything that runs while the agent runs. Start it once; stop it once."""

    def __init__(self, config: Config, on_finished: Callable[[Finished], None] | None = None) -> None:
        """``on_finished`` is called from an analyst's thread after each commit, and must be quick."""
        self.config = config
        self._on_finished = on_finished
        self._stop = threading.Event()
        self._arrivals: queue.Queue[Arrival] = queue.Queue(maxsize=ANALYSTS)
        self._in_hand: set[str] = set()
        self._in_hand_changed = threading.Condition()
        self._watches: dict[str, tuple[FolderWatch, threading.Thread]] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Open the store and the engine, and begin to watch.

        Raises:
            BundleError: the bundle cannot be used.
            StoreError: the database cannot be used, or another agent uses it.
        """
        cv2.setNumThreads(1)  # the engine's threads are the ones that should have the processor
        config = self.config
        bundle = load_bundle(config.inference.bundle)
        self._ladder: Ladder = open_ladder(config.inference.ladder, bundle)
        self._ladder.start()  # the engine loads while the store is checked
        try:
            self._store = Store.open(
                config.device.state_dir,
                config.device.id,
                config.store.quota_mb,
                clinic_id=config.device.clinic_id,
                software_version=__version__,
                clocks=Clocks(trusted=clock_trusted),
            )
        except BaseException:
            self._ladder.stop()
            raise
        self._space = SpaceGuard(config.device.state_dir, config.store.quota_mb)
        self._setting = Setting(
            bundle=bundle,
            ladder=self._ladder,
            limits=DecodeLimits(),
            deadline_s=config.inference.deadline_s,
            device_id=config.device.id,
            clinic_id=config.device.clinic_id,
            software_version=__version__,
            clock=lambda: datetime.now(timezone.utc),
            clock_trusted=clock_trusted,
        )
        for number in range(ANALYSTS):
            self._spawn(f"analyst-{number}", self._analyse_arrivals)
        for scope in config.dermoscopes:
            self._watch(scope)
        self._spawn("upkeep", self._keep_up)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a rung has passed its golden image; False where it took longer than ``timeout_s``."""
        return self._ladder.wait_ready(timeout_s)

    def stop(self) -> None:
        """Stop in order: no new work, captures in hand to their end or left as received, then engine and store."""
        self._stop.set()
        with self._in_hand_changed:
            self._in_hand_changed.notify_all()
        for thread in [*self._threads, *(thread for _, thread in self._watches.values())]:
            thread.join()
        self._ladder.stop()
        self._store.close()

    @property
    def store(self) -> Store:
        """The records, for those who run in this process."""
        return self._store

    @property
    def ladder(self) -> Ladder:
        """The engine's ladder, for those who look at its state."""
        return self._ladder

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    # Intake

    def _watch(self, scope: DermoscopeSection) -> None:
        known = self._store.known(scope.id)

        def is_known(path: Path, stamp: FileStamp) -> bool:
            return known.get(bytes(path)) == stamp

        watch = FolderWatch(scope.folder, scope.id, self._deliver, known=is_known, on_sidecar=self._late_sidecar)
        thread = threading.Thread(target=watch.run, args=(self._stop,), name=f"watch-{scope.id}", daemon=True)
        self._watches[scope.id] = (watch, thread)
        thread.start()

    def _deliver(self, arrival: Arrival) -> None:
        while not self._stop.is_set():
            try:
                return self._arrivals.put(arrival, timeout=0.2)
            except queue.Full:
                continue
        return None

    def _late_sidecar(self, path: Path) -> None:
        """A sidecar closed: the scan of its picture takes it over if it was answered without one."""
        for scan_id, capture_path in self._store.scans_without_metadata(path.with_suffix("")):
            metadata, _ = merge_about({}, read_sidecar(capture_path))
            if metadata and self._store.add_metadata(scan_id, metadata).result():
                publish(self._store, scan_id, None)
                log.info("scan %s: its sidecar came later and was added", scan_id)

    # Analysis

    def _analyse_arrivals(self) -> None:
        while not self._stop.is_set():
            try:
                arrival = self._arrivals.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                self._carry(arrival)
            except _Stopping:
                return
            except Exception:
                # A fault of ours must not stop the next capture; this one is still "received" and is taken up again.
                log.exception("%s: the analysis broke off unexpectedly; it will be tried again", arrival.identity)

    def _carry(self, arrival: Arrival) -> None:
        """Take one arrival to its end."""
        self._wait_for_room()
        self._take_in_hand(arrival.identity)
        try:
            sha256 = arrival.sha256 if isinstance(arrival, Capture) else None
            claim = self._insist(
                lambda: self._store.claim(
                    arrival.identity, sha256, arrival.path, arrival.dermoscope_id, arrival.stamp
                ).result()
            )
            if claim.outcome is not ClaimOutcome.KNOWN:
                self._finish(arrival, claim)
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

    def _finish(self, arrival: Arrival, claim: Claim) -> None:
        try:
            analysis = self._analyse(arrival, claim)
        except Rejection as rejection:
            self._reject(arrival, claim, rejection)
            return
        answer = analysis.answer
        text = answer.model_dump_json()
        self._insist(lambda: self._store.answer(claim.scan_id, text, answer.backend, analysis.about).result())
        self._tell(arrival, claim, answer, None)
        self._space.wrote(publish(self._store, claim.scan_id, analysis))

    def _reject(self, arrival: Arrival, claim: Claim, rejection: Rejection) -> None:
        self._insist(lambda: self._store.reject(claim.scan_id, rejection.reason, rejection.sentence).result())
        self._tell(arrival, claim, None, rejection)
        self._space.wrote(publish(self._store, claim.scan_id, None))

    def _analyse(self, arrival: Arrival, claim: Claim) -> Analysis:
        if isinstance(arrival, Unusable):
            raise arrival.rejection
        if claim.attempts > MAX_CRASHES:
            raise Rejection(
                Reason.CRASHED_ANALYSIS,
                f"This picture stopped the program {MAX_CRASHES} times. Take the picture again; if that happens with "
                "other pictures too, call your support.",
            )

        def sidecar() -> Sidecar:
            return read_sidecar(arrival.path)

        faults = 0
        while True:
            try:
                return analyse(arrival, self._setting, claim.scan_id, sidecar)
            except EngineError as error:
                faults += isinstance(error, LadderExhausted) and error.engine_was_healthy
                log.warning("scan %s: no engine answered: %s", claim.scan_id, error)
                if faults >= MAX_ENGINE_FAULTS:
                    raise Rejection(
                        Reason.ENGINE_FAILED,
                        f"This picture could not be analysed in {MAX_ENGINE_FAULTS} tries, although the device is "
                        "working. Take the picture again; judge the lesion without the device meanwhile.",
                    ) from error
            while not self._ladder.wait_ready(0.5):
                self._stop_if_asked()
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._stop.is_set():
            raise _Stopping

    def _insist(self, operation: Callable[[], T]) -> T:
        """Do a store operation, for as long as the store is full: no answer is dropped for want of room."""
        while True:
            try:
                return operation()
            except StoreFull as error:
                log.error("the store is full: %s", error)  # noqa: TRY400 - the sentence says it all
                if self._stop.wait(FULL_RETRY_S):
                    raise _Stopping from error

    def _tell(self, arrival: Arrival, claim: Claim, answer: Answer | None, rejection: Rejection | None) -> None:
        committed = time.monotonic()
        if answer is not None:
            log.info("scan %s answered by %s in %.0f ms", claim.scan_id, answer.backend, answer.latency_ms)
        elif rejection is not None:
            log.info("scan %s rejected: %s", claim.scan_id, rejection.reason.value)
        if self._on_finished is None:
            return
        self._on_finished(
            Finished(
                scan_id=claim.scan_id,
                state=ScanState.ANSWERED if answer is not None else ScanState.REJECTED,
                path=arrival.path,
                dermoscope_id=arrival.dermoscope_id,
                answer=answer,
                reason=rejection.reason if rejection else None,
                sentence=rejection.sentence if rejection else None,
                committed=committed,
            )
        )

    # Upkeep

    def _keep_up(self) -> None:
        """Now and then: finish what a crash left half done, and replace a watch that died (F02)."""
        publish_again(self._store, self._setting.limits)
        looked_for: set[str] = set()
        while not self._stop.wait(UPKEEP_S):
            for scope in self.config.dermoscopes:
                if not self._watches[scope.id][1].is_alive() and not self._stop.is_set():
                    log.error("the watch of %s died; starting it again", scope.id)
                    self._watch(scope)
            looked_for = self._resolve_lost(looked_for)

    def _resolve_lost(self, looked_for: set[str]) -> set[str]:
        """Refuse captures that were claimed, never finished, and are gone from a folder we believe (F03).

        A capture must be missing at two looks, so that one that is being renamed is not given up.
        """
        missing = set()
        for row in self._store.unfinished():
            watch = self._watches[row.dermoscope_id][0] if row.dermoscope_id in self._watches else None
            with self._in_hand_changed:
                busy = row.identity in self._in_hand
            if busy or watch is None or not watch.missing(row.path):
                continue
            missing.add(row.scan_id)
            if row.scan_id in looked_for:
                gone = refuse(Reason.GONE)
                self._store.reject(row.scan_id, gone.reason, gone.sentence).result()
                self._space.wrote(publish(self._store, row.scan_id, None))
                log.warning("scan %s rejected: its file is gone", row.scan_id)
        return missing
