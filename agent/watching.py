"""The dermoscopes' folders: a watch for each, which is replaced when it dies, and what becomes of captures that go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.analysts import Analysts
from agent.answer.pipeline import merge_about
from agent.intake.capture import Arrival, FileStamp
from agent.intake.reasons import Reason, refuse
from agent.intake.remembered import Remembered
from agent.intake.sidecar import read_sidecar
from agent.intake.watch import FolderWatch
from agent.publish import publish
from agent.records.space import SpaceGuard
from agent.records.store import Store
from agent.sections import DermoscopeSection
from agent.upkeep.progress import Pulse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Watching:
    """A watch at work."""

    watch: FolderWatch
    thread: threading.Thread
    stop: threading.Event
    new: bool
    """Nothing was ever seen of this dermoscope: its folder cannot have a marker of ours yet."""


class Watches:
    """Owner of the watches. Start once; set ``stop`` and join."""

    def __init__(
        self,
        dermoscopes: Sequence[DermoscopeSection],
        store: Store,
        analysts: Analysts,
        space: SpaceGuard,
        *,
        stop: threading.Event,
        on_changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``on_changed`` is told of each scan that got its sidecar after its answer."""
        self._dermoscopes, self._store, self._analysts, self._space = dermoscopes, store, analysts, space
        self._stop, self._on_changed = stop, on_changed
        self._watches: dict[str, _Watching] = {}
        self._leaving: list[_Watching] = []
        self._looked_for: set[str] = set()
        self._pulse = Pulse()

    def start(self) -> None:
        """Begin to watch every folder."""
        for scope in self._dermoscopes:
            self._watch(scope)

    def use(self, dermoscopes: Sequence[DermoscopeSection]) -> None:
        """Watch these folders from now on. What was taken from one that is left goes on to its end."""
        before = {scope.id: scope for scope in self._dermoscopes}
        self._dermoscopes = tuple(dermoscopes)
        for scope_id in [scope_id for scope_id, scope in before.items() if scope not in dermoscopes]:
            watching = self._watches.pop(scope_id)
            watching.stop.set()
            self._leaving.append(watching)
        for scope in dermoscopes:
            if scope.id not in self._watches:
                self._watch(scope)

    def join(self) -> None:
        """Wait for the watches' end, once ``stop`` is set."""
        watches = [*self._watches.values(), *self._leaving]
        for watching in watches:
            watching.stop.set()
        for watching in watches:
            watching.thread.join()

    def progress(self) -> float:
        """When any folder was last looked at, by the monotonic clock; the present while the queue is full (F25).

        Any, not each: a share that hangs holds its own watch, and a restart would take the other folders with it.
        """
        return max([self._pulse.beating(), *(watching.watch.beat for watching in self._watches.values())])

    def there(self, dermoscope_id: str) -> bool:
        """Whether a dermoscope's folder is there, and is the one that it was (F03)."""
        watching = self._watches.get(dermoscope_id)
        return watching is not None and (watching.watch.believed or (watching.new and watching.watch.there))

    def away(self, dermoscope_id: str) -> bool:
        """Whether what is missing in a dermoscope's folder may come back: the folder is not the one that it was."""
        watching = self._watches.get(dermoscope_id)
        return watching is not None and not watching.watch.believed

    def _watch(self, scope: DermoscopeSection) -> None:
        known = Remembered()
        for path, stamp in self._store.known(scope.id).items():
            known.put(path, stamp.packed())

        def is_known(path: Path, stamp: FileStamp) -> bool:
            return known.has(bytes(path), stamp.packed())

        def deliver(arrival: Arrival) -> None:
            with self._pulse.waiting():  # for room in the queue, which is no fault of the watch
                self._analysts.deliver(arrival)

        watch = FolderWatch(scope.folder, scope.id, deliver, known=is_known, on_sidecar=self._late_sidecar)
        stop = threading.Event()
        thread = threading.Thread(target=watch.run, args=(stop,), name=f"watch-{scope.id}", daemon=True)
        self._watches[scope.id] = _Watching(watch, thread, stop, new=len(known) == 0)
        thread.start()

    def _late_sidecar(self, path: Path) -> bool:
        """A sidecar is there: scans of its picture take it over that ended without it. Whether that is all of them."""
        scans = self._store.scans_at(path.with_suffix(""))
        for scan in scans:
            if not (scan.finished and scan.unnamed):
                continue
            metadata, _ = merge_about({}, read_sidecar(scan.path))
            if not metadata and not path.exists():
                return False  # the folder went away meanwhile
            if metadata and self._store.add_metadata(scan.scan_id, metadata).result():
                publish(self._store, scan.scan_id, None)
                log.info("scan %s: its sidecar came later and was added", scan.scan_id)
                self._on_changed(scan.scan_id)
        return bool(scans) and all(scan.finished for scan in scans)

    # Upkeep

    def replace_dead(self) -> None:
        """Start a watch again that died (F02)."""
        for scope in self._dermoscopes:
            watching = self._watches.get(scope.id)
            if watching is not None and not watching.thread.is_alive() and not self._stop.is_set():
                log.error("the watch of %s died; starting it again", scope.id)
                self._watch(scope)

    def resolve_lost(self) -> None:
        """Refuse captures that were claimed, never finished, and are gone from a folder we believe (F03).

        A capture must be missing at two looks, so that one that is being renamed is not given up.
        """
        missing = set()
        for row in self._store.unfinished():
            watching = self._watches.get(row.dermoscope_id)
            watch = None if watching is None else watching.watch
            if watch is None or self._analysts.has_in_hand(row.identity) or not watch.missing(row.path):
                continue
            missing.add(row.scan_id)
            if row.scan_id in self._looked_for:
                gone = refuse(Reason.GONE)
                self._store.reject(row.scan_id, gone.reason, gone.sentence).result()
                self._space.wrote(publish(self._store, row.scan_id, None))
                log.warning("scan %s rejected: its file is gone", row.scan_id)
        self._looked_for = missing
