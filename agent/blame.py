"""Which captures were being analysed when the process died, so that one poisonous file cannot stop the agent forever.

A note lies on disk while a capture is analysed. It is not synced: the page cache outlives a crash of the process,
which is what is to be counted, and a power cut, which is nobody's fault, mostly leaves none. A capture that has a note
from an earlier process is analysed alone, so that it is not blamed again for the file beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CrashLedger:
    """Notes of analyses under way, in a folder of its own; used by several threads, each for its own scan."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = folder
        # A note that is here now was left by a process that died; its size is how often that has happened.
        self._crashes = {note.name: note.stat().st_size for note in folder.iterdir()}
        self._changed = threading.Condition()
        self._under_way = 0
        self._one_is_alone = False

    def crashes(self, scan_id: str) -> int:
        """How many times the process died while it analysed this scan's capture."""
        return self._crashes.get(scan_id, 0)

    @contextmanager
    def analysing(self, scan_id: str) -> Iterator[None]:
        """Keep the note while the body runs, whatever way it ends, short of the process's death."""
        crashes = self.crashes(scan_id)
        with self._room(alone=crashes > 0):
            (self._folder / scan_id).write_bytes(b"x" * (crashes + 1))
            try:
                yield
            finally:
                self.forget(scan_id)

    def forget(self, scan_id: str) -> None:
        """Take the note away: the analysis came to an end, or is given up."""
        (self._folder / scan_id).unlink(missing_ok=True)
        self._crashes.pop(scan_id, None)

    @contextmanager
    def _room(self, *, alone: bool) -> Iterator[None]:
        """Let analyses run side by side, but a suspect's alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._one_is_alone and (not alone or self._under_way == 0))
            self._under_way += 1
            self._one_is_alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._one_is_alone = False
                self._changed.notify_all()
