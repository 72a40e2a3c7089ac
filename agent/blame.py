"""Which captures were being analysed when the process died, so that one poisonous file cannot stop the agent forever.

A note lies on disk while a capture is analysed. It is not synced: the page cache outlives a crash of the process,
which is what is to be counted, and a power cut, which is nobody's fault, mostly leaves none. A capture that has a note
from an earlier process is analysed alone, so that it is not blamed again for the file beside it. While a capture only
waits for the engine, which is another process, its note says nothing: whatever ends the agent then, it is not the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

Waiting: TypeAlias = Callable[[], AbstractContextManager[None]]


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
    def analysing(self, scan_id: str) -> Iterator[Waiting]:
        """Keep the note while the body runs, whatever way it ends, short of the process's death.

        The body gets a context of its own, to be in while the capture waits for the engine.
        """
        crashes = self.crashes(scan_id)

        def note(deaths: int) -> None:
            with suppress(OSError):  # on a full disk there is no note, and all the same an answer (F06)
                (self._folder / scan_id).write_bytes(b"x" * deaths)

        @contextmanager
        def waiting() -> Iterator[None]:
            note(crashes)
            yield
            note(crashes + 1)

        with self._room(alone=crashes > 0):
            note(crashes + 1)
            try:
                yield waiting
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
