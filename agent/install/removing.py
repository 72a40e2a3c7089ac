"""Taking the agent off a device: the software at once, what it kept only when asked for, captures never."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent.install.accounts import remove_accounts
from agent.install.files import Files
from agent.install.journal import InstallError, Journal, Outcome
from agent.install.layout import TIMERS, Layout
from agent.install.machine import Machine
from agent.install.running import Service
from agent.install.software import Software
from agent.install.units import Units


class Removal:
    """Takes the agent off one device: this machine, or a root folder."""

    def __init__(
        self,
        root: Path,
        journal: Journal,
        *,
        machine: Machine | None = None,
        chown: Callable[[Path, int, int], None] | None = None,
    ) -> None:
        self.layout, self.machine, self.journal = Layout(root), machine or Machine(root), journal
        self.files = Files(journal, chown)

    def unsent(self) -> int | None:
        """Events that the cloud has not committed yet; None where the database cannot be asked."""
        database = self.layout.state / "dermascan.db"
        if not database.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5.0)) as connection:
                found = connection.execute("SELECT count(*) FROM outbox WHERE state = 'waiting'").fetchone()
        except sqlite3.Error:
            return None
        return int(found[0])

    def uninstall(self, *, purge: bool) -> None:
        """Stop the agent and take software and units away; with ``purge`` settings, keys and everything it kept too.

        Raises:
            InstallError: something could not be taken away.
        """
        layout, files = self.layout, self.files
        service = Service(self.machine, self.journal)
        service.stop()
        try:
            Units(layout, files, self.journal).remove()
            files.remove(layout.command)
            if purge:
                self._purge()
            else:
                kept = (layout.settings.parent, layout.state)
                self.journal.add(Outcome.NOTED, f"kept: {' and '.join(map(str, kept))} (--purge takes them away)")
            if layout.captures.is_dir() and not self._give_up_captures():
                self.journal.add(Outcome.NOTED, f"kept: {layout.captures}, which holds the clinic's own pictures")
            # Last: this very program may be part of it.
            Software(layout, self.machine, files, self.journal).remove()
        except OSError as error:
            raise InstallError(f"{error.filename}: could not be removed ({error.strerror}); start again") from error
        service.forget()

    def _purge(self) -> None:
        for path in (self.layout.settings.parent, self.layout.state, self.layout.tmpfiles, self.layout.sysusers):
            self.files.remove(path)
        for timer in TIMERS:  # when systemd last started what makes up for a night switched off
            self.files.remove(self.layout.at(f"/var/lib/systemd/timers/stamp-{timer}"))
        if self._give_up_captures():
            remove_accounts(self.layout, self.machine, self.journal)
        else:
            self.journal.add(Outcome.NOTED, "kept: the user dermascan, who owns the folders of the clinic's pictures")

    def _give_up_captures(self) -> bool:
        """Remove the captures' folders where no picture is in them. True: they are gone."""
        captures = self.layout.captures
        if not captures.is_dir():
            return True
        pictures = [path for path in captures.rglob("*") if not path.is_dir() and path.name != ".dermascan-folder"]
        if pictures:
            return False
        self.files.remove(captures)
        self.files.remove_if_empty(captures.parent)
        return True
