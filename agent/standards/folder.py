"""The export folder: each finished scan is written there in the formats wished, again with each verdict.

In the agent there is only a thread that waits. The work is done by a process beside it, at a low priority, which lives
while there is work and a little longer. A nudge is a hint: what there is to do is found by comparing the database with
the ledger, at the start, after each failure and now and then, so that nothing is forgotten in a crash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.standards.horizon import Horizon
from agent.standards.process import Child, ChildEnded, ChildSilent

log = logging.getLogger(__name__)

LINGER_S: Final = 10.0
"""How long the process is kept for the next scan: starting one costs a second of processor time."""
RETRY_S: Final = 60.0
LOOK_EVERY_S: Final = 3600.0
"""Even if nobody nudged: the price is a second of processor time in a process of low priority."""
ANSWER_S: Final = 120.0
"""One export takes a tenth of a second; it may wait for a busy processor, and for a slow share."""
HEAR_S: Final = 0.2
"""How soon a stop is noticed."""
STOP_S: Final = 5.0
MOST_NUDGES: Final = 256
"""Scans remembered by their ids; beyond that the whole database is looked through."""
NICENESS: Final = 10


@dataclass(frozen=True)
class ExportState:
    """How the export stands, for the status page."""

    written: int = 0
    """Exports written since the start; a scan in two formats counts twice."""
    failures: int = 0
    """Tries that failed since the start."""
    given_up: int = 0
    """Exports that are not tried any more: ``dermascan export`` says why."""
    waiting: int = 0
    """Scans that are known to have changed and were not looked at yet."""
    running: bool = False
    """Whether the process is there."""
    trouble: str | None = None
    """Why nothing can be written now: one sentence, with what to do; tried again every minute."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look after."""
        told = () if self.trouble is None else (f"Export folder: {self.trouble}",)
        if self.given_up:
            told = (*told, f"Export folder: {self.given_up} scans could not be written; see the log")
        return told


@dataclass(frozen=True)
class Written:
    """An export that lies in the folder, as it is told for the audit."""

    scan_id: str
    format: str
    revision: str

    @property
    def reference(self) -> str:
        """The same for the same export, should it be told twice."""
        return f"export-folder/{self.scan_id}/{self.format}/{self.revision}"


class ExportFolder:
    """Writes finished scans into a folder. Start it once; nudge it after each commit; stop it once."""

    def __init__(
        self,
        state_dir: Path,
        folder: Path,
        formats: Sequence[str],
        on_written: Callable[[Written], object] = lambda _: None,
        *,
        linger_s: float = LINGER_S,
        retry_s: float = RETRY_S,
        look_every_s: float = LOOK_EVERY_S,
        answer_s: float = ANSWER_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it, with nothing done yet.

        Args:
            state_dir: the agent's.
            folder: where to; it must be there when it is written to.
            formats: values of `agent.standards.export.Format`.
            on_written: called on this folder's own thread after each export.
            linger_s: how long the process is kept without work.
            retry_s: until everything is tried again after a failure.
            look_every_s: until everything is looked through even without a nudge.
            answer_s: how long the process may be silent while it works.
            monotonic: seconds.
        """
        self._on_written = on_written
        self._state_dir = state_dir
        self._order: dict[str, Any] = {
            "state_dir": str(state_dir.absolute()),
            "folder": str(folder.absolute()),
            "formats": list(formats),
            "niceness": NICENESS,
        }
        self._linger_s, self._retry_s, self._look_every_s, self._answer_s = linger_s, retry_s, look_every_s, answer_s
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._nudged: dict[str, None] = {}
        self._look_at = monotonic()  # everything, at the start
        self._stopping = False
        self._state = ExportState()
        self._child: Child | None = None
        self._thread = threading.Thread(target=self._run, name="export", daemon=True)

    def start(self) -> None:
        """Begin, with what a crash or a stop left undone; before the agent takes up captures.

        Scans that were finished before the first start of all are not written unasked.
        """
        horizon = Horizon.now(self._state_dir)
        self._order |= {"last_seq": horizon.last_seq, "unfinished": horizon.unfinished}
        self._thread.start()

    def changed(self, scan_id: str) -> None:
        """A scan was finished, judged, or given its patient's fields. Returns at once."""
        with self._changed:
            if len(self._nudged) >= MOST_NUDGES:
                self._nudged.clear()
                self._look_at = self._monotonic()
            else:
                self._nudged[scan_id] = None
            self._changed.notify_all()

    @property
    def state(self) -> ExportState:
        """How it stands."""
        with self._changed:
            return replace(self._state, waiting=len(self._nudged), running=self._child is not None)

    def stop(self) -> None:
        """Stop: the scan in hand is finished or taken up at the next start, and the process is gone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._serve()
                self._let_go(STOP_S)
            except ChildEnded as error:
                self._let_go()
                self._failed(f"the process that exports failed: {error}")
            except Exception:
                self._let_go()
                log.exception("the export broke off unexpectedly; it goes on in a while")
                self._failed("the export broke off unexpectedly; see the log")

    def _serve(self) -> None:
        """Wait for work, and do all of it until there has been none for a while."""
        work = self._wait(None)
        while work is not None:
            if self._child is None:
                child = Child(self._order)
                with self._changed:
                    self._child = child
            self._look(self._child, work[0])
            work = self._wait(self._linger_s)

    def _wait(self, most_s: float | None) -> tuple[list[str] | None] | None:
        """What is to be looked at: scans by their ids, None for all of them. None itself: nothing, in that time."""
        give_up = None if most_s is None else self._monotonic() + most_s
        with self._changed:
            while not self._stopping:
                now = self._monotonic()
                if now >= self._look_at:
                    self._nudged.clear()
                    self._look_at = now + self._look_every_s
                    return (None,)
                if self._nudged:
                    scans = list(self._nudged)
                    self._nudged.clear()
                    return (scans,)
                if give_up is not None and now >= give_up:
                    return None
                self._changed.wait(min(self._look_at, give_up or self._look_at) - now)
        return None

    def _look(self, child: Child, scans: list[str] | None) -> None:
        child.send({"scans": scans})
        failed = False
        while True:
            heard = self._hear(child)
            if heard is None:
                return
            if heard.get("end"):
                break
            failed |= self._note(heard)
        trouble = heard["trouble"]
        if trouble is not None:
            self._failed(trouble)
            return
        with self._changed:
            if self._state.trouble is not None:
                log.info("export: it goes on")
            self._state = replace(self._state, trouble=None, given_up=heard["given_up"])
            if failed:
                self._look_at = min(self._look_at, self._monotonic() + self._retry_s)

    def _hear(self, child: Child) -> dict[str, Any] | None:
        """The child's next line; None where we are to stop, and it did not come in time."""
        give_up = self._monotonic() + self._answer_s
        while True:
            if self._stopping:
                return None
            try:
                return child.hear(HEAR_S)
            except ChildSilent:
                if self._monotonic() > give_up:
                    raise

    def _note(self, heard: dict[str, Any]) -> bool:
        """Count one export; True where it failed."""
        if heard["state"] == "failed":
            log.warning("export: %s", heard["sentence"])
            with self._changed:
                self._state = replace(self._state, failures=self._state.failures + 1)
            return True
        if heard["state"] == "written":
            log.info("export: scan %s written as %s", heard["scan_id"], heard["format"])
            with self._changed:
                self._state = replace(self._state, written=self._state.written + 1)
            self._on_written(Written(heard["scan_id"], heard["format"], heard["revision"]))
        return False

    def _failed(self, sentence: str) -> None:
        with self._changed:
            new = self._state.trouble != sentence
            self._state = replace(self._state, failures=self._state.failures + 1, trouble=sentence)
            # Everything then, since what was nudged is forgotten by now.
            self._look_at = self._monotonic() + self._retry_s
        if new:  # not again every minute (F28)
            log.error("export: %s", sentence)

    def _let_go(self, patience_s: float = 0.0) -> None:
        with self._changed:
            child, self._child = self._child, None
        if child is not None:
            child.end(patience_s)
