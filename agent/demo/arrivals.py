"""Watches the outbox: how long each answer's event took to be acknowledged, how many wait, and what of the network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.analysts import Finished
from agent.demo.network import Network
from agent.demo.outages import Outages
from agent.demo.table import Acknowledged, Event, Word
from agent.records.errors import StoreError
from agent.records.reading import list_outbox

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.025
"""Between two looks at the outbox while an acknowledgement may come: as exact as the shown times are."""
_IDLE_LOOK_S: Final = 0.2


@dataclass(frozen=True)
class _Pending:
    """An answer or rejection whose event has not left the outbox."""

    name: str
    committed: float


class Arrivals:
    """Owns the watching thread, which also puts the cable back: it knows what waits at that moment."""

    def __init__(self, state_dir: Path, network: Network, outages: Outages, tell: Callable[[Event], None]) -> None:
        """``tell`` is called from the thread with each `Acknowledged` and each new `Word`."""
        self._state_dir, self._network, self._outages, self._tell = state_dir, network, outages, tell
        self.waiting = 0
        """Events in the outbox at the last look, whoever wrote them."""
        self._pending: dict[str, _Pending] = {}
        self._answers = self._pulled_at = 0
        self._counting = threading.Lock()
        self._back_wanted = False
        self._owed: frozenset[str] = frozenset()
        """Events that waited when the cable was put back, until all of them are acknowledged."""
        self._owed_since = 0.0
        self._word: Word | None = None
        self._nudged, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._nudged.set()
        if self._thread.is_alive():
            self._thread.join()

    def ended(self, finished: Finished) -> None:
        """An answer or rejection is committed, and its event in the outbox with it; from the analysts' threads."""
        if finished.answer is not None:
            with self._counting:
                self._answered()
        self._pending[finished.scan_id] = _Pending(finished.path.name, finished.committed)
        self._nudged.set()

    def want_network(self) -> None:
        """Put the cable back, if it is out."""
        self._back_wanted = True
        self._nudged.set()

    @property
    def settled(self) -> bool:
        """Whether nothing waits for the cloud, and all has been told."""
        return not (self._pending or self.waiting or self._owed or self._back_wanted or self._network.pulled)

    def _answered(self) -> None:
        self._answers += 1
        if self._network.pulled:
            self._back_wanted |= self._outages.ends_at(self._answers, self._pulled_at)
        elif self._outages.pulls_at(self._answers):
            self._pulled_at = self._answers
            self._network.pull()

    def _run(self) -> None:
        while not self._stopping.is_set():
            coming = self._pending and not self._network.pulled
            self._nudged.wait(_LOOK_S if coming else _IDLE_LOOK_S)
            self._nudged.clear()
            try:
                self._look()
            except StoreError as error:  # it is locked for longer than usual: the next look tells
                log.warning("the outbox could not be looked at: %s", error)

    def _look(self) -> None:
        pending = dict(self._pending)
        rows = list_outbox(self._state_dir, "waiting")
        gone = pending.keys() - {row.scan_id for row in rows}
        given_up = {row.scan_id for row in list_outbox(self._state_dir, "dead")} if gone else set()
        now = time.monotonic()
        for scan_id in gone:
            if scan_id not in given_up:
                self._tell(Acknowledged(pending[scan_id].name, now - pending[scan_id].committed))
            del self._pending[scan_id]
        self.waiting = len(rows)
        self._follow_network(frozenset(row.event_id for row in rows), now)

    def _follow_network(self, waiting: frozenset[str], now: float) -> None:
        back, self._back_wanted = self._back_wanted, False
        if back and self._network.pulled:
            self._owed, self._owed_since = waiting, now
            self._network.put_back()
            self._say(f"network back: {wait(len(waiting))}, the agent reconnects")
        elif self._network.pulled:
            self._say(f"network pulled: answers go on, {wait(len(waiting))}", pulled=True)
        elif self._owed and not self._owed & waiting:
            after = now - self._owed_since
            self._say(f"network back: all {len(self._owed)} acknowledged after {after:.1f} s")
            self._owed = frozenset()

    def _say(self, text: str, *, pulled: bool = False) -> None:
        word = Word(text, pulled)
        if word != self._word:
            self._word = word
            self._tell(word)


def wait(count: int) -> str:
    """How many events wait, in words."""
    return "1 event waits" if count == 1 else f"{count} events wait"
