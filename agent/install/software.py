"""The software: each release in a folder of its own, built whole beside the one that runs, taken over by one rename.

``/opt/dermascan`` is a link. So a break at any moment leaves the old release or the new one, never half of each, and
the one before stays where it was for the way back (F27).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from agent.install.files import Files
from agent.install.journal import InstallError, Journal, Outcome
from agent.install.layout import Layout
from agent.install.machine import Machine
from agent.install.release import Release

COMPLETE: Final = "share/complete.json"
"""Written last: a release folder without it was broken off, and is made anew."""
DISTRIBUTION: Final = "dermascan-edge"
LEAST_PYTHON: Final = (3, 10)
PIP: Final = ("--disable-pip-version-check", "--no-input", "--quiet", "--root-user-action=ignore")


class Software:
    """The releases of one device."""

    def __init__(self, layout: Layout, machine: Machine, files: Files, journal: Journal) -> None:
        self._layout, self._machine, self._files, self._journal = layout, machine, files, journal

    @property
    def running(self) -> Path | None:
        """The release that the units start; None before the first installation."""
        return self._behind(self._layout.current)

    @property
    def previous(self) -> Path | None:
        """The release before."""
        return self._behind(self._layout.previous)

    def is_here(self, release: Release) -> bool:
        """Whether a release was installed whole."""
        return (self._layout.releases / release.id / COMPLETE).is_file()

    def build(self, release: Release, *, python: str, system_packages: bool, online: bool, without: bool) -> Path:
        """Put a release beside the others; nothing uses it yet. Returns its folder.

        Args:
            release: what is delivered.
            python: the interpreter of the device.
            system_packages: let it see the device's own packages (JetPack's TensorRT).
            online: what is missing among its wheels may come from the package index.
            without: leave the virtual environment out.
        """
        folder = self._layout.releases / release.id
        if self.is_here(release):
            self._journal.add(Outcome.KEPT, str(folder))
            return folder
        if folder.exists():
            shutil.rmtree(folder)  # broken off
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o755)
        try:
            version = "none"
            if not without:
                version = self._python(python, release, online=online)
                self._environment(folder, release, python=python, system_packages=system_packages, online=online)
            self._share(folder, release)
            facts = {"id": release.id, "version": release.version, "python": version, "system": system_packages}
            (folder / COMPLETE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._journal.add(Outcome.MADE, str(folder))
        return folder

    def take_over(self, folder: Path) -> Path | None:
        """Let the units start this release from now on; returns the one before."""
        before = self.running
        if before is not None and before != folder:
            self._files.link(self._layout.previous, before.name)
        self._files.link(self._layout.current, f"dermascan-releases/{folder.name}")
        return before

    def prune(self) -> None:
        """Remove releases that are neither the running one nor the one before."""
        keep = {self.running, self.previous}
        for folder in sorted(self._layout.releases.iterdir()):
            if folder.is_dir() and not folder.is_symlink() and folder not in keep:
                self._files.remove(folder)

    def remove(self) -> None:
        """Remove every release."""
        self._files.remove(self._layout.current)
        self._files.remove(self._layout.releases)

    def _behind(self, link: Path) -> Path | None:
        if not link.is_symlink():
            return None
        folder = self._layout.releases / link.readlink().name
        return folder if (folder / COMPLETE).is_file() else None

    def _python(self, python: str, release: Release, *, online: bool) -> str:
        """The version of the device's Python, which must fit."""
        if not self._machine.has(python) and not self._layout.at(python).exists():
            raise InstallError(f"{python}: is not on the device: apt-get install python3, and start again")
        told = self._machine.run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip()
        if tuple(int(part) for part in told.split(".")) < LEAST_PYTHON:
            raise InstallError(f"{python}: is Python {told}; Python 3.10 to 3.13 is needed: name another with --python")
        known = release.pythons()
        if known and told not in known and not online:
            raise InstallError(
                f"{release.folder}: was packed for Python {', '.join(sorted(known))}, and {python} is Python {told}: "
                f"pack it with that one (make package PYTHONS=python{told}), or allow the package index with --online"
            )
        return told

    def _environment(self, folder: Path, release: Release, *, python: str, system_packages: bool, online: bool) -> None:
        """A virtual environment with exactly what the release has; without pip, which the device never needs again."""
        self._journal.saying(f"building the virtual environment of {release.id}: about a minute")
        inside = self._bring_in(release)
        try:
            at = self._layout.seen_from_device(folder)
            wheels = self._layout.seen_from_device(inside / "wheels")
            options = ("--system-site-packages",) if system_packages else ()
            # Debian's python3 has venv without ensurepip; pip runs out of its own wheel.
            self._machine.run(python, "-m", "venv", "--without-pip", *options, at)
            pips = sorted(path.name for path in (inside / "wheels").glob("pip-*.whl"))
            if not pips:
                raise InstallError(f"{release.wheels}: has no pip; fetch the archive again")
            index = () if online else ("--no-index",)
            # What the device has is not trusted to fit: everything but TensorRT comes from the release.
            fresh = ("--ignore-installed",) if system_packages else ()
            extras = (release.folder / "EXTRAS").read_text(encoding="ascii").strip()
            wanted = f"{DISTRIBUTION}[{extras}]=={release.version}" if extras else f"{DISTRIBUTION}=={release.version}"
            constraints = self._layout.seen_from_device(inside / "constraints.txt")
            pip = f"{wheels}/{pips[-1]}/pip"
            self._machine.run(
                f"{at}/bin/python",
                pip,
                "install",
                *PIP,
                *index,
                *fresh,
                "--find-links",
                wheels,
                "-c",
                constraints,
                wanted,
            )
            told = self._machine.run(f"{at}/bin/dermascan", "--version").stdout.strip()
            if told != f"dermascan {release.version}":
                raise InstallError(f"{folder}: says it is {told!r}, not {release.version}: fetch the archive again")
        finally:
            if inside != release.folder:
                shutil.rmtree(inside, ignore_errors=True)

    def _bring_in(self, release: Release) -> Path:
        """The release's folder, where the device can read it: a root folder cannot see what lies outside it."""
        if self._layout.root in (Path("/"), *release.folder.resolve().parents):
            return release.folder.resolve()
        inside = self._layout.releases / f".{release.id}.delivered"
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree(release.folder, inside)
        return inside

    def _share(self, folder: Path, release: Release) -> None:
        """What goes with the release and is needed later: its units (for the way back), its documents, its SBOM."""
        share = folder / "share"
        share.mkdir(mode=0o755)
        for name in ("systemd", "docs"):
            if (release.folder / name).is_dir():
                shutil.copytree(release.folder / name, share / name)
        for name in ("agent.example.toml", "sbom.cdx.json", "LICENSE", "VERSION"):
            if (release.folder / name).is_file():
                shutil.copy(release.folder / name, share / name)
        for path in (share, *share.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        for models in folder.glob("lib/python3.*/site-packages/engines/models"):
            (folder / "models").symlink_to(models.relative_to(folder))
