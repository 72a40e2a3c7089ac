"""A release as it is delivered: a folder (``make package``'s archive, unpacked) whose every byte is accounted for."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.install.journal import InstallError

SUMS: Final = "SHA256SUMS"
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._+/-]+)")


@dataclass(frozen=True)
class Release:
    """A delivered release whose files are what they were when it was packed."""

    folder: Path
    version: str
    id: str
    """Version and a hash of everything in it: two builds of one version are two releases."""

    @property
    def wheels(self) -> Path:
        """Everything that goes into the virtual environment."""
        return self.folder / "wheels"

    @property
    def systemd(self) -> Path:
        """Units and their companions."""
        return self.folder / "systemd"

    @property
    def example(self) -> Path:
        """The settings with every key explained."""
        return self.folder / "agent.example.toml"

    def pythons(self) -> set[str]:
        """Python versions ("3.11") that it has compiled wheels for."""
        tags = (re.search(r"-cp3(\d+)-cp3\d+-", wheel.name) for wheel in self.wheels.glob("*.whl"))
        return {f"3.{tag.group(1)}" for tag in tags if tag}


def open_release(folder: Path) -> Release:
    """Check a delivered release.

    Raises:
        InstallError: it is none, a file is missing, changed or not listed.
    """
    try:
        listed = (folder / SUMS).read_bytes()
    except OSError as error:
        raise InstallError(
            f"{folder}: is no release of DermaScan Edge ({SUMS}: {error.strerror}); "
            "name the folder that the archive was unpacked to, with --from FOLDER"
        ) from error
    expected: dict[str, str] = {}
    for line in listed.decode("ascii", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is None or ".." in found.group(2).split("/") or found.group(2).startswith("/"):
            raise InstallError(f"{folder / SUMS}: is not readable at {line[:80]!r}: unpack the archive again")
        expected[found.group(2)] = found.group(1)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    present -= {SUMS}
    for name in sorted(present ^ set(expected)):
        what = "is not in the release's list" if name in present else "is missing"
        raise InstallError(f"{folder / name}: {what}: unpack the archive again, and into an empty folder")
    for name, sha256 in expected.items():
        path = folder / name
        if path.is_symlink() or _hash(path) != sha256:
            raise InstallError(f"{path}: is damaged or was changed: unpack the archive again")
    wanted = {"VERSION", "agent.example.toml", "systemd/dermascan-agent.service"}
    if missing := sorted(wanted - set(expected)):
        raise InstallError(f"{folder}: has no {missing[0]}: it is no whole release; fetch the archive again")
    version = (folder / "VERSION").read_text(encoding="ascii").strip()
    if not re.fullmatch(r"[0-9A-Za-z.+]{1,40}", version):
        raise InstallError(f"{folder / 'VERSION'}: {version[:40]!r} is no version; fetch the archive again")
    return Release(folder, version, f"{version}-{hashlib.sha256(listed).hexdigest()[:8]}")


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
