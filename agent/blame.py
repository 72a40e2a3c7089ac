"""Which captures were being analysed when the process died, so that one poisonous file cannot stop the agent forever.

A note lies on disk while a capture is analysed. It is not synced: the page cache outlives a crash of the process, which
is what is to be counted, and a power cut, which is nobody's fault, mostly leaves none.
"""

from __future__ import annotations

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

    def crashes(self, scan_id: str) -> int:
        """How many times the process died while it analysed this scan's capture."""
        return self._crashes.get(scan_id, 0)

    @contextmanager
    def analysing(self, scan_id: str) -> Iterator[None]:
        """Keep the note while the body runs, whatever way it ends, short of the process's death."""
        note = self._folder / scan_id
        note.write_bytes(b"x" * (self.crashes(scan_id) + 1))
        try:
            yield
        finally:
            self.forget(scan_id)

    def forget(self, scan_id: str) -> None:
        """Take the note away: the analysis came to an end, or is given up."""
        (self._folder / scan_id).unlink(missing_ok=True)
        self._crashes.pop(scan_id, None)
