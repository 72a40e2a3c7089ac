"""Units, the drop-ins that are this very machine's, and what is enabled; nothing is started here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agent.install.devices import drop_in, gpu_nodes, is_jetson
from agent.install.files import ROOT, Files
from agent.install.journal import InstallError, Journal, Outcome
from agent.install.layout import (
    AGENT_UNIT,
    SERVICES_WITH_DEVICES,
    SERVICES_WITH_SECRETS,
    TIMERS,
    UNITS,
    Layout,
)

DEVICES: Final = "10-devices.conf"
FOLDERS: Final = "20-folders.conf"
CREDENTIALS: Final = "30-credentials.conf"
OURS: Final = (DEVICES, FOLDERS, CREDENTIALS)
WRITTEN: Final = (
    '# Written by "dermascan install", and anew at each installation: put changes of yours into another file.\n'
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LARGEST_SECRET: Final = 1 << 20
_HIDDEN: Final = ("/home", "/root", "/run/user")
"""What ProtectHome= hides."""
_COVERED: Final = ("/srv/dermascan", "/var/lib/dermascan")
"""What the unit lets the agent write to already."""


class Units:
    """The units of one device."""

    def __init__(self, layout: Layout, files: Files, journal: Journal) -> None:
        self._layout, self._files, self._journal = layout, files, journal

    def install(self, source: Path) -> None:
        """Put the units of a release in place; at the first time, enable them.

        What an administrator disabled stays disabled: only a unit that was not there before is enabled.
        """
        for unit in UNITS:
            path = self._layout.units / unit
            first = not path.exists()
            self._files.file(path, _read(source / unit))
            if first and (wants := _wanted_by(unit)):
                link = self._layout.local_units / f"{wants}.wants" / unit
                self._files.link(link, self._layout.seen_from_device(path))

    def fit_devices(self, template: Path, dev: Path) -> None:
        """Let the services use this Jetson's GPU; where it is none, nothing is needed."""
        nodes = gpu_nodes(dev) if is_jetson(self._layout.root) else []
        content = WRITTEN + drop_in(_read(template).decode(), nodes) if nodes else None
        for service in SERVICES_WITH_DEVICES:
            self._drop_in(service, DEVICES, content)
        if is_jetson(self._layout.root) and not nodes:
            self._journal.add(
                Outcome.NOTED, f"this is a Jetson, but no GPU nodes are in {dev}: start dermascan install on the device"
            )

    def fit_folders(self, folders: list[str]) -> None:
        """Let the agent see and mark dermoscopes' folders that lie elsewhere than below /srv/dermascan."""
        lines = []
        for folder in sorted(set(folders)):
            if _below(folder, _COVERED):
                continue
            if not re.fullmatch(r"[^\s:%\"'\\]+", folder):
                self._journal.add(Outcome.NOTED, f"{folder}: cannot be named in a unit: choose one without blanks")
            elif _below(folder, _HIDDEN):
                lines += ["ProtectHome=tmpfs", f"BindPaths=-{folder}"]
            else:
                lines.append(f"ReadWritePaths=-{folder}")
        content = WRITTEN + "[Service]\n" + "\n".join(dict.fromkeys(lines)) + "\n" if lines else None
        self._drop_in(AGENT_UNIT, FOLDERS, content)

    def fit_credentials(self) -> None:
        """Hand every secret in the credentials folder to the services, which cannot read the folder itself."""
        names = []
        for path in sorted(self._layout.credentials.iterdir()):
            if path.is_symlink() or not path.is_file() or not _NAME.fullmatch(path.name):
                self._journal.add(Outcome.NOTED, f"{path}: is left alone: a plain file with a plain name belongs here")
            elif path.stat().st_size > _LARGEST_SECRET:
                self._journal.add(Outcome.NOTED, f"{path}: is left alone: a secret has a megabyte at most")
            else:
                self._files.owned(path, 0o600, ROOT)
                names.append(path.name)
        folder = self._layout.seen_from_device(self._layout.credentials)
        lines = "".join(f"LoadCredential={name}:{folder}/{name}\n" for name in names)
        for service in SERVICES_WITH_SECRETS:
            self._drop_in(service, CREDENTIALS, WRITTEN + "[Service]\n" + lines if names else None)

    def remove(self) -> None:
        """Take units, links and our drop-ins away; an administrator's own drop-ins stay."""
        for unit in UNITS:
            if wants := _wanted_by(unit):
                self._files.remove(self._layout.local_units / f"{wants}.wants" / unit)
            drop_ins = self._layout.local_units / f"{unit}.d"
            for name in OURS:
                self._files.remove(drop_ins / name)
            if not self._files.remove_if_empty(drop_ins):
                self._journal.add(Outcome.NOTED, f"{drop_ins}: holds drop-ins that are not ours; they stay")
            self._files.remove(self._layout.units / unit)

    def _drop_in(self, service: str, name: str, content: str | None) -> None:
        path = self._layout.local_units / f"{service}.d" / name
        if content is None:
            self._files.remove(path)
            self._files.remove_if_empty(path.parent)
        else:
            self._files.file(path, content.encode())


def _wanted_by(unit: str) -> str | None:
    """The target that starts a unit by itself."""
    if unit == AGENT_UNIT:
        return "multi-user.target"
    return "timers.target" if unit in TIMERS else None


def _below(folder: str, tops: tuple[str, ...]) -> bool:
    return any(folder == top or folder.startswith(f"{top}/") for top in tops)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InstallError(f"{path}: cannot be read ({error.strerror}): fetch the archive again") from error
