"""An installation, an upgrade, or the way back: the same steps, each of which does nothing where nothing is to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.install.accounts import make_accounts, owner
from agent.install.devices import is_jetson
from agent.install.files import Files
from agent.install.journal import InstallError, Journal, Outcome
from agent.install.layout import CAPTURES_GROUP, FOLDERS, USER, Layout
from agent.install.machine import Machine
from agent.install.release import Release, open_release
from agent.install.running import Service
from agent.install.settings import Facts, captures_folders, first_settings, try_settings
from agent.install.software import Software
from agent.install.units import Units


@dataclass(frozen=True)
class Wishes:
    """What whoever installs may choose."""

    device_id: str | None = None
    clinic_id: str | None = None
    python: str = "/usr/bin/python3"
    system_packages: bool | None = None
    """Let the agent see the device's own Python packages; None: on a Jetson, for JetPack's TensorRT."""
    online: bool = False
    start: bool = True
    without_software: bool = False
    dev: Path = Path("/dev")


class Installation:
    """Installs onto one device: this machine, or a root folder."""

    def __init__(
        self,
        root: Path,
        journal: Journal,
        wishes: Wishes,
        *,
        machine: Machine | None = None,
        chown: Callable[[Path, int, int], None] | None = None,
    ) -> None:
        self.layout, self.machine, self.journal, self.wishes = Layout(root), machine or Machine(root), journal, wishes
        self.files = Files(journal, chown)
        self.units = Units(self.layout, self.files, journal)
        self.software = Software(self.layout, self.machine, self.files, journal)
        self.service = Service(self.machine, journal)

    def install(self, folder: Path) -> Release:
        """Bring the device to this release, from nothing or from another one.

        Raises:
            SettingsRefused: the settings do not fit; what ran goes on.
            InstallError: something else; what ran goes on, or was started again.
        """
        release = open_release(folder)
        self._prepare(release.systemd)
        wishes = self.wishes
        system = is_jetson(self.layout.root) if wishes.system_packages is None else wishes.system_packages
        built = self.software.build(
            release,
            python=wishes.python,
            system_packages=system,
            online=wishes.online,
            without=wishes.without_software,
        )
        ready = self._settings(release)
        self._change_over(built, ready=ready)
        self.software.prune()
        return release

    def go_back(self) -> str:
        """Let the release before run again, with its own units; returns its name.

        Raises:
            InstallError: there is none, or it does not start, and the later one runs again.
        """
        before = self.software.previous
        if before is None or before == self.software.running:
            raise InstallError(f"{self.layout.releases}: holds no release to go back to")
        self._prepare(before / "share/systemd")
        self._change_over(before, ready=True)
        return before.name

    def fit_anew(self) -> str:
        """Bring drop-ins, folders and secrets in line with settings that were changed; returns the release's name.

        Raises:
            InstallError: nothing is installed.
        """
        running = self.software.running
        if running is None:
            raise InstallError(f"{self.layout.current}: nothing is installed: name the unpacked archive with --from")
        self._prepare(running / "share/systemd")
        self.files.owned(self.layout.settings, 0o640, owner(self.layout, "root", USER))
        self._change_over(running, ready=True, anew=True)
        return running.name

    def _prepare(self, systemd: Path) -> None:
        """User and folders; nothing of it disturbs an agent that runs."""
        self.files.file(self.layout.sysusers, _read(systemd / "sysusers.conf"))
        make_accounts(self.layout, self.machine, self.journal)
        self.files.file(self.layout.tmpfiles, _read(systemd / "tmpfiles.conf"))
        for folder in FOLDERS:
            whose = owner(self.layout, folder.owner, folder.group)
            self.files.folder(self.layout.at(folder.path), folder.mode, whose)

    def _settings(self, release: Release) -> bool:
        """Settings where there are none. True: the agent may be started with what is there."""
        path, whose = self.layout.settings, owner(self.layout, "root", USER)
        if path.exists():
            self.files.owned(path, 0o640, whose)
            return True
        wishes = self.wishes
        example = _read(release.example).decode()
        text = first_settings(example, device_id=wishes.device_id, clinic_id=wishes.clinic_id)
        self.files.file(path, text.encode(), 0o640, whose)
        return wishes.device_id is not None and wishes.clinic_id is not None

    def _change_over(self, built: Path, *, ready: bool, anew: bool = False) -> None:
        facts = self._facts(built)
        before = self.software.running
        was_wanted = self.service.wanted()
        self._put_in_place(built, facts)
        if not self.wishes.start or not self.service.here:
            return
        if not ready:
            path = self.layout.seen_from_device(self.layout.settings)
            self.journal.add(
                Outcome.NOTED, f"{path}: say who this device is ([device] id, clinic_id); then: dermascan install"
            )
            return
        if before not in (None, built) and not was_wanted:
            self.journal.add(Outcome.NOTED, "the agent was stopped by somebody, and is not started now")
            return
        if was_wanted and before == built and not (anew or self.journal.changed):
            return
        try:
            self.service.restart()
        except InstallError as error:
            if before is None or before == built:
                raise
            self.journal.add(Outcome.CHANGED, f"going back to {before.name}, since the new release does not start")
            self._prepare(before / "share/systemd")
            self._put_in_place(before, self._facts(before))
            self.service.restart()
            raise InstallError(f"{error}\nThe release before ({before.name}) runs again.") from error

    def _facts(self, built: Path) -> Facts | None:
        """What the settings say, read by that very release; None where it has no software."""
        return try_settings(self.layout, self.machine, built) if (built / "bin/python").exists() else None

    def _put_in_place(self, built: Path, facts: Facts | None) -> None:
        systemd = built / "share/systemd"
        for folder in captures_folders(self.layout, facts) if facts else ():
            self.files.folder(folder, 0o2770, owner(self.layout, USER, CAPTURES_GROUP))
        self.units.fit_devices(systemd / "jetson.conf.in", self.wishes.dev)
        self.units.fit_folders(list(facts.folders) if facts else [])
        self.units.fit_credentials()
        self.software.take_over(built)
        self.units.install(systemd)
        self.files.link(self.layout.command, "/opt/dermascan/bin/dermascan")
        self.service.know_the_units()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InstallError(f"{path}: cannot be read ({error.strerror}): fetch the archive again") from error
