"""Sidecars that are written while the folder is watched, possibly after their capture was answered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from agent.intake.capture import FileStamp

log = logging.getLogger(__name__)


class LateSidecars:
    """Tells of each sidecar once for each change. Those that lie there at the start are read with their captures."""

    def __init__(self, tell: Callable[[Path], None] | None) -> None:
        self._tell = tell
        self._seen: dict[str, bytes] = {}

    def note(self, path: Path, *, tell: bool = True) -> None:
        """A sidecar was closed, or found; ``tell`` is False for the first look at a folder."""
        try:
            stamp = FileStamp.of(path.lstat()).packed()
        except OSError:
            return
        if self._seen.get(path.name) == stamp:
            return
        self._seen[path.name] = stamp
        if self._tell is None or not tell:
            return
        try:
            self._tell(path)
        except Exception:
            log.exception("a sidecar in %s could not be taken", path.parent)

    def keep_only(self, names: set[str]) -> None:
        """Forget those that are no longer in the folder."""
        for gone in self._seen.keys() - names:
            del self._seen[gone]
