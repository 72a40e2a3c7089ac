"""The export folder in the running agent: told of each scan that ended, was judged or got its patient's fields."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.records import verdicts
from agent.records.audit import AGENT, AuditAction
from agent.records.errors import StoreError
from agent.records.store import Store
from agent.sections import ExportSection
from agent.standards.folder import ExportFolder, Written

log = logging.getLogger(__name__)

AT_ONCE: Final = 500


class Exporting:
    """Start it before captures are taken up; tell it; stop it once."""

    def __init__(self, settings: ExportSection, state_dir: Path, store: Store) -> None:
        self._store = store
        self._folder = ExportFolder(state_dir, settings.folder, settings.formats, self._audit)
        self._last_verdict = 0

    def start(self) -> None:
        """Begin, with what a crash or a stop left undone; what was judged before is found by the folder itself."""
        with self._store.reading() as db:
            self._last_verdict = verdicts.last_seq(db)
        self._folder.start()

    def changed(self, scan_id: str) -> None:
        """A scan ended, or is another than it was. Returns at once."""
        self._folder.changed(scan_id)

    def look(self) -> None:
        """Now and then: find what was judged, whoever took the verdict."""
        with self._store.reading() as db:
            found = verdicts.after(db, self._last_verdict, AT_ONCE)
        for one in found:
            self._last_verdict = one.seq
            self._folder.changed(one.scan_id)

    def warnings(self) -> tuple[str, ...]:
        """What a person should look after."""
        return self._folder.state.warnings

    def stop(self) -> None:
        """End; what is not written by now is written after the next start."""
        self._folder.stop()

    def _audit(self, written: Written) -> None:
        with suppress(StoreError):  # the store is closing: the file is there, and was asked for in the settings
            self._store.audit(
                AuditAction.EXPORT,
                AGENT.who,
                AGENT.role,
                written.scan_id,
                {"format": written.format, "to": "folder"},
                reference=written.reference,
            )
