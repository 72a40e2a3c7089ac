"""The daemon: the one place where intake, answer and records are put together.

FolderWatch (a thread per dermoscope) ─► arrivals (bounded) ─► analysts (a few threads) ─► Store (its own thread)
│
Ladder ─► worker process
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2

from agent import __version__
from agent.analysts import Analysts, Finished
from agent.answer.colours import ShelfColours
from agent.answer.pipeline import Analysis, Setting, merge_about
from agent.blame import CrashLedger
from agent.config import Config, DermoscopeSection
from agent.fallback import cloud_settings, pseudonyms
from agent.intake.capture import FileStamp
from agent.intake.picture import DecodeLimits
from agent.intake.reasons import Reason, refuse
from agent.intake.sidecar import read_sidecar
from agent.intake.watch import FolderWatch
from agent.messages.envelope import Sender
from agent.model import RunningModel
from agent.publish import publish, publish_again
from agent.records.space import SpaceGuard
from agent.records.spool import Spool
from agent.records.store import Clocks, Store
from agent.upkeep.colour_watches import ColourWatches
from calibration.shelf.reading import FOLDER as SHELF
from calibration.shelf.reading import Shelf
from engines.bundle import Bundle
from engines.ladder import Ladder, open_ladder

if TYPE_CHECKING:
    from agent.sync.publisher import Publisher

log = logging.getLogger(__name__)

UPKEEP_S: Final = 10.0
DECODING: Final = 2
"""Pictures that may be held at their full size at one time: 36 MB each at 12 megapixels."""
RELEASED: Final = datetime(2026, 11, 1, tzinfo=timezone.utc)
"""No clock that shows an earlier time than this software's own can be right (F16)."""


def clock_trusted() -> bool:
    """Whether the wall clock can be right; a Jetson without an RTC battery boots in 1970."""
    return datetime.now(timezone.utc) >= RELEASED


class Daemon:
    """Everything that runs while the agent runs. Start it once; stop it once."""

    def __init__(self, config: Config, on_finished: Callable[[Finished], None] | None = None) -> None:
        """``on_finished`` is called from a thread of the daemon's after each commit, and must be quick."""
        self.config = config
        self._on_finished = on_finished
        self._stop = threading.Event()
        self._watches: dict[str, tuple[FolderWatch, threading.Thread]] = {}
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)

    def start(self) -> None:
        """Open the store and the engine, and begin to watch.

        Raises:
            BundleError: the bundle cannot be used.
            ConfigError: the key for pseudonyms is needed, and cannot be used.
            StoreError: the database cannot be used, or another agent uses it.
        """
        cv2.setNumThreads(1)  # the engine's threads are the ones that should have the processor
        config = self.config
        self._pseudonyms = pseudonyms(config)
        self._model = RunningModel(config.inference, self._open_ladder)
        self._model.start()  # the engine loads while the store is checked
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
            self._model.stop()
            raise
        self._colour_watches = ColourWatches(self._store)
        self._space = SpaceGuard(config.device.state_dir, config.store.quota_mb)
        self._setting = Setting(
            bundle=self._model.serving.bundle,
            ladder=self._model.serving.ladder,
            limits=DecodeLimits(),
            deadline_s=config.inference.deadline_s,
            device_id=config.device.id,
            clinic_id=config.device.clinic_id,
            software_version=__version__,
            clock=lambda: datetime.now(timezone.utc),
            clock_trusted=clock_trusted,
            colours=ShelfColours(
                Shelf(config.device.state_dir / SHELF),
                require=config.calibration.require,
                clock=lambda: datetime.now(timezone.utc),
                clock_trusted=clock_trusted,
                drift=self._colour_watches.warnings,
            ),
            decoding=threading.BoundedSemaphore(DECODING),
            pseudonym=self._pseudonyms.of if self._pseudonyms else None,
        )
        ledger = CrashLedger(config.device.state_dir / "analysing")
        self._analysts = Analysts(
            self._store,
            self._setting,
            ledger,
            self._space,
            stop=self._stop,
            on_finished=self._on_finished,
            look_on=self._look_on,
        )
        self._analysts.start()
        self._model.follow(self._use)
        for scope in config.dermoscopes:
            self._watch(scope)
        self._spool = Spool(self._store, config.device.state_dir, self._stop)
        self._spool.start()
        self._sync = self._start_sync()
        self._upkeep.start()

    def _start_sync(self) -> Publisher | None:
        config = self.config
        if config.mqtt is None:
            return None
        from agent.sync.opening import start_sync  # only where it is wanted: it brings paho

        sender = Sender(config.device.clinic_id, config.device.id, __version__)
        return start_sync(config.mqtt, sender, self._store, clock_trusted)

    def _look_on(self, analysis: Analysis) -> None:
        answer = analysis.answer
        self._colour_watches.saw(answer.dermoscope_id, answer.calibration.profile_id, analysis.rgb)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a rung has passed its golden image; False where it took longer than ``timeout_s``."""
        return self.ladder.wait_ready(timeout_s)

    def stop(self) -> None:
        """Stop in order: no new work, captures in hand to their end or left as received, then engine and store."""
        self._stop.set()
        self._analysts.join()
        self._upkeep.join()
        self._spool.join()
        for _, thread in self._watches.values():
            thread.join()
        if self._sync is not None:
            self._sync.stop()
        self._model.stop()
        self._store.close()

    @property
    def sync(self) -> Publisher | None:
        """Who carries the outbox to the cloud, for those who look at its state; None without ``[mqtt]``."""
        return self._sync

    @property
    def store(self) -> Store:
        """The records, for those who run in this process."""
        return self._store

    @property
    def ladder(self) -> Ladder:
        """The ladder that answers now, for those who look at its state."""
        return self._model.serving.ladder

    @property
    def model(self) -> RunningModel:
        """The model that runs, for those who look at its state."""
        return self._model

    def _open_ladder(self, bundle: Bundle) -> Ladder:
        cache = self.config.device.state_dir / "cache"
        return open_ladder(self.config.inference.ladder, bundle, cache=cache, cloud=cloud_settings(self.config))

    def _use(self, bundle: Bundle, ladder: Ladder) -> None:
        """Another bundle answers from now on; an analysis that has begun keeps its own."""
        self._setting = replace(self._setting, bundle=bundle, ladder=ladder)
        self._analysts.use(self._setting)

    # Intake

    def _watch(self, scope: DermoscopeSection) -> None:
        known = self._store.known(scope.id)

        def is_known(path: Path, stamp: FileStamp) -> bool:
            return known.get(bytes(path)) == stamp

        watch = FolderWatch(
            scope.folder, scope.id, self._analysts.deliver, known=is_known, on_sidecar=self._late_sidecar
        )
        thread = threading.Thread(target=watch.run, args=(self._stop,), name=f"watch-{scope.id}", daemon=True)
        self._watches[scope.id] = (watch, thread)
        thread.start()

    def _late_sidecar(self, path: Path) -> None:
        """A sidecar closed: the scan of its picture takes it over if it was answered without one."""
        for scan_id, capture_path in self._store.scans_without_metadata(path.with_suffix("")):
            metadata, _ = merge_about({}, read_sidecar(capture_path))
            if metadata and self._store.add_metadata(scan_id, metadata).result():
                publish(self._store, scan_id, None)
                log.info("scan %s: its sidecar came later and was added", scan_id)

    # Upkeep

    def _keep_up(self) -> None:
        """Now and then: finish what a crash left half done, and replace a watch that died (F02)."""
        looked_for: set[str] = set()
        first = True
        while first or not self._stop.wait(UPKEEP_S):
            try:
                if first:
                    publish_again(self._store, self._setting.limits)
                self._replace_dead_watches()
                looked_for = self._resolve_lost(looked_for)
                self._analysts.try_again()
                if self._sync is not None:
                    self._sync.start()  # does nothing while it lives (F22)
            except Exception:
                log.exception("upkeep broke off unexpectedly; it goes on at its next round")
            first = False

    def _replace_dead_watches(self) -> None:
        for scope in self.config.dermoscopes:
            if not self._watches[scope.id][1].is_alive() and not self._stop.is_set():
                log.error("the watch of %s died; starting it again", scope.id)
                self._watch(scope)

    def _resolve_lost(self, looked_for: set[str]) -> set[str]:
        """Refuse captures that were claimed, never finished, and are gone from a folder we believe (F03).

        A capture must be missing at two looks, so that one that is being renamed is not given up.
        """
        missing = set()
        for row in self._store.unfinished():
            watch = self._watches[row.dermoscope_id][0] if row.dermoscope_id in self._watches else None
            if watch is None or self._analysts.has_in_hand(row.identity) or not watch.missing(row.path):
                continue
            missing.add(row.scan_id)
            if row.scan_id in looked_for:
                gone = refuse(Reason.GONE)
                self._store.reject(row.scan_id, gone.reason, gone.sentence).result()
                self._space.wrote(publish(self._store, row.scan_id, None))
                log.warning("scan %s rejected: its file is gone", row.scan_id)
        return missing
