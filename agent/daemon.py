"""The daemon: the one place where intake, answer and records are put together.

FolderWatch (a thread per dermoscope) ─► arrivals (bounded) ─► analysts (a few threads) ─► Store (its own thread)
│
Ladder ─► worker process
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Final

import cv2

from agent import __version__
from agent.alive import sources_of
from agent.analysts import Analysts, Finished
from agent.answer.aside import Aside
from agent.answer.colours import ShelfColours
from agent.answer.pipeline import Analysis, Setting
from agent.blame import CrashLedger
from agent.config import Config
from agent.fallback import cloud_settings, pseudonyms
from agent.intake.picture import DecodeLimits
from agent.linking import Link
from agent.memory import Tidying
from agent.model import RunningModel
from agent.publish import Unfiled
from agent.records.keeping.keeper import Keeper
from agent.records.sealing import read_seal
from agent.records.space import SpaceGuard
from agent.records.spool import Spool
from agent.records.store import Clocks, Store
from agent.reload import Parts
from agent.upkeep import logs
from agent.upkeep.audit_watch import AuditWatch
from agent.upkeep.colour_watches import ColourWatches
from agent.upkeep.progress import Source
from agent.upkeep.rounds import Rounds
from agent.watching import Watches
from agent.web.uploads import Uploads
from calibration.shelf.clock import RELEASED
from calibration.shelf.reading import FOLDER as SHELF
from calibration.shelf.reading import Shelf
from engines.bundle import Bundle
from engines.ladder import Ladder, open_ladder

if TYPE_CHECKING:
    from agent.exporting import Exporting
    from agent.sync.publisher import Publisher
    from agent.web.opening import Web

log = logging.getLogger(__name__)

DECODING: Final = 2
"""Pictures that may be held at their full size at one time: 36 MB each at 12 megapixels."""


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
        self._web: Web | None = None
        self._export: Exporting | None = None
        self._aside = Aside(DECODING)
        self._started_at, self._started = datetime.now(timezone.utc), time.monotonic()

    def start(self) -> None:
        """Open the store and the engine, and begin to watch.

        Raises:
            BundleError: the bundle cannot be used.
            ConfigError: a key for pseudonyms or for patient fields is needed, and cannot be used.
            StoreError: the database cannot be used, or another agent uses it.
        """
        cv2.setNumThreads(1)  # the engine's threads are the ones that should have the processor
        config = self.config
        self._pseudonyms = pseudonyms(config)
        seal = read_seal(config.privacy.field_key_file)
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
                seal=seal,
            )
        except BaseException:
            self._model.stop()
            raise
        self._colour_watches = ColourWatches(self._store)
        self._space = SpaceGuard(config.device.state_dir, config.store.quota_mb)
        self._link = Link(self._store, clock_trusted)
        self._keeper = Keeper(self._store, config, self._space, clock_trusted)
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
            colours=self._colours(config),
            aside=self._aside.begin,
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
            on_finished=self._finished,
            look_on=self._look_on,
        )
        self._watches = Watches(
            config.dermoscopes, self._store, self._analysts, self._space, stop=self._stop, on_changed=self._changed
        )
        self._web = self._open_web()
        self._export = self._open_export()
        if self._export is not None:
            self._export.start()  # before captures are: it remembers what was finished before its own first day
        self._analysts.start()
        self._model.follow(self._use)
        self._watches.start()
        self._spool = Spool(self._store, config.device.state_dir, self._stop, self._keeper.doers)
        self._spool.start()
        if self._web is not None:
            self._link.heard = self._web.posted
        self._link.use(config)
        if self._web is not None:
            self._web.start()
        self._upkeep = Rounds((*self._keeper.first, self._take_up), self._jobs(), self._stop)
        self._upkeep.start()

    def _take_up(self) -> None:
        """Answer what came by a request and was not answered when the agent ended."""
        Uploads(self.config.device.state_dir).take_up(self._store, self._analysts.deliver)

    def _jobs(self) -> Sequence[Callable[[], object]]:
        inference, bundle = self.config.inference, self._setting.bundle
        audit = AuditWatch(
            self._store,
            self.config.device.state_dir / SHELF,
            inference.models,
            None if inference.bundle is None else (bundle.label, bundle.model_sha256),
        )
        export = () if self._export is None else (self._export.look,)
        web = () if self._web is None else (self._web.start, self._web.look_after)  # nor does this
        watches = (self._watches.replace_dead, self._watches.resolve_lost)
        unfiled = Unfiled(self._store, self._setting.limits, self._watches.away)
        return (
            unfiled.look,
            *watches,
            self._analysts.try_again,
            self._link.keep,
            *web,
            *export,
            audit.look,
            *self._keeper.jobs,
            Tidying(lambda: not self._analysts.load().in_hand).look,
            logs.look,
        )

    def _colours(self, config: Config) -> ShelfColours:
        return ShelfColours(
            Shelf(config.device.state_dir / SHELF),
            require=config.calibration.require,
            clock=lambda: datetime.now(timezone.utc),
            clock_trusted=clock_trusted,
            drift=self._colour_watches.warnings,
        )

    def _use_setting(self, config: Config) -> None:
        self._setting = replace(self._setting, deadline_s=config.inference.deadline_s, colours=self._colours(config))
        self._analysts.use(self._setting)

    def progress(self) -> Mapping[str, Source]:
        """By part, when it last made progress, for the watchdog (F25); once it is started."""
        return sources_of(self._store, self._watches, self._analysts, self._link)

    @property
    def parts(self) -> Parts:
        """What takes new settings over (`agent.reload`)."""
        return Parts(
            watches=self._watches,
            keeper=self._keeper,
            store=self._store,
            space=self._space,
            serving=lambda: (self._model.serving.bundle, self._model.serving.ladder),
            use_setting=self._use_setting,
            use_mqtt=self._link.use,
            use_config=partial(setattr, self, "config"),
        )

    def _open_web(self) -> Web | None:
        if self.config.api is None:
            return None
        from agent.web.opening import Web  # only where it is wanted: it brings fastapi
        from agent.web.ports import Agent

        agent = Agent(
            config=self.config,
            dermoscopes=lambda: self.config.dermoscopes,
            started_at=self._started_at,
            started=self._started,
            store=self._store,
            space=self._space,
            setting=lambda: self._setting,
            ask=self._analysts.ask,
            load=self._analysts.load,
            folder_ok=self._watches.there,
            warnings=lambda: self._keeper.warnings + (() if self._export is None else self._export.warnings()),
            sync=lambda: None if self._link.publisher is None else self._link.publisher.state,
        )
        return Web(agent, self.config.api)

    def _open_export(self) -> Exporting | None:
        if self.config.export is None:
            return None
        from agent.exporting import Exporting  # only where it is wanted

        return Exporting(self.config.export, self.config.device.state_dir, self._store)

    def _changed(self, scan_id: str) -> None:
        if self._web is not None:
            self._web.changed(scan_id)
        if self._export is not None:
            self._export.changed(scan_id)

    def _finished(self, finished: Finished) -> None:
        if self._web is not None:
            self._web.finished(finished)
        if self._export is not None:
            self._export.changed(finished.scan_id)
        if self._on_finished is not None:
            self._on_finished(finished)

    def _look_on(self, analysis: Analysis) -> None:
        answer = analysis.answer
        self._colour_watches.saw(answer.dermoscope_id, answer.calibration.profile_id, analysis.rgb)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a rung has passed its golden image; False where it took longer than ``timeout_s``."""
        return self.ladder.wait_ready(timeout_s)

    def stop(self) -> None:
        """Stop in order: no new work, captures in hand to their end or left as received, then engine and store."""
        self._stop.set()
        if self._web is not None:
            self._web.stop()
        self._analysts.join()
        self._aside.close()
        if self._export is not None:
            self._export.stop()
        self._upkeep.join()
        self._spool.join()
        self._watches.join()
        self._link.stop()
        self._model.stop()
        self._store.close()

    @property
    def sync(self) -> Publisher | None:
        """Who carries the outbox to the cloud, for those who look at its state; None without ``[mqtt]``."""
        return self._link.publisher

    @property
    def web_address(self) -> str | None:
        """Where the clinic's page is; None without ``[api]``."""
        return None if self._web is None else self._web.address

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
