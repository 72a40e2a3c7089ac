"""Makes news of what was committed: the scan as the list shows it, and verdicts whoever gave them.

One thread does it, so that a page hears of things in the order in which they happened.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from agent.priority import stand_back
from agent.records import listing, verdicts
from agent.records.errors import StoreError
from agent.web.broadcast import Broadcast
from agent.web.ports import Agent
from agent.web.scans import summary_of, verdict_of

log = logging.getLogger(__name__)

AT_ONCE: Final = 100


class NewsDesk:
    """Told from any thread; it reads on a thread of its own and tells the open pages. Start it once, stop it once."""

    def __init__(self, agent: Agent, broadcast: Broadcast) -> None:
        self._agent, self._broadcast = agent, broadcast
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="news", initializer=stand_back)
        self._last_verdict = 0
        self._asked = False

    def start(self) -> None:
        """What was given before now is no news."""
        with self._agent.store.reading() as db:
            self._last_verdict = verdicts.last_seq(db)

    def stop(self) -> None:
        """Nothing more is told."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def scan(self, scan_id: str) -> None:
        """A scan is new, or another than it was."""
        self._later(lambda: self._tell_scan(scan_id))

    def look_for_verdicts(self) -> None:
        """Verdicts may have been committed."""
        if not self._asked:  # one look finds all that came until it begins
            self._asked = True
            self._later(self._read_verdicts)

    def _later(self, do: object) -> None:
        with suppress(RuntimeError):  # the web is stopping
            self._thread.submit(self._do, do)

    def _do(self, do: object) -> None:
        try:
            do()  # type: ignore[operator]
        except StoreError as error:
            log.warning("a page may not show what is new: %s", error)
        except Exception as error:  # noqa: BLE001 - its text may be of a scan
            log.error("news broke off: %s", type(error).__name__)  # noqa: TRY400

    def _tell_scan(self, scan_id: str) -> None:
        with self._agent.store.reading() as db:
            scan = listing.one(db, scan_id)
        if scan is not None:
            full, discreet = (summary_of(scan, patients=patients).model_dump_json() for patients in (True, False))
            self._broadcast.tell("scan", full, discreet)

    def _read_verdicts(self) -> None:
        self._asked = False
        with self._agent.store.reading() as db:
            found = verdicts.after(db, self._last_verdict, AT_ONCE)
        if found:
            self._last_verdict = found[-1].seq
            # A scan of theirs may have been asked for after this look: it is in the queue by now, and goes first.
            self._later(lambda: self._tell_verdicts(found))
        if len(found) == AT_ONCE:
            self.look_for_verdicts()

    def _tell_verdicts(self, found: Sequence[verdicts.Verdict]) -> None:
        for one in found:
            full, discreet = (
                f'{{"scan_id":"{one.scan_id}","verdict":{verdict_of(one, patients=patients).model_dump_json()}}}'
                for patients in (True, False)
            )
            self._broadcast.tell("verdict", full, discreet)
