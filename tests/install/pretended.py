"""A device that is a folder, and releases to put on it: small ones, with a stand-in for the agent in them."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent.install.installing import Installation, Wishes
from agent.install.journal import Journal
from agent.install.machine import Machine
from agent.install.removing import Removal

REPOSITORY = Path(__file__).resolve().parents[2]
UID, GID, CAPTURES_GID = 777, 778, 779

_PROBE = """
import json, sys
text = open(sys.argv[1]).read()
if "%(refuses)s" in text:
    print(sys.argv[1] + ": device.id: not usable", file=sys.stderr)
    sys.exit(78)
import re
folders = re.findall(r'^folder = "(.*)"', text, re.M)
print(json.dumps({"state_dir": "/var/lib/dermascan", "folders": folders}))
"""
_CLI = """
import sys
def main():
    print("dermascan %(version)s")
    return 0
"""


def pack(folder: Path, version: str = "1.0", *, starts: bool = True, refuses: str = "REFUSED-BY-ALL") -> Path:
    """A release's folder, as scripts/package.sh makes it, with a stand-in for the agent in its wheel."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    info = f"dermascan_edge-{version}.dist-info"
    files = {
        "agent/__init__.py": "",
        "agent/cli.py": _CLI % {"version": version},
        "agent/starts.txt": str(starts),
        "agent/install/__init__.py": "",
        "agent/install/probe.py": _PROBE % {"refuses": refuses},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: dermascan-edge\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ndermascan = agent.cli:main\n",
        "engines/models/demo/1.0.0/manifest.json": "{}",
        "engines/models/demo/1.0.0/model.onnx": "a network",
    }
    record = f"{info}/RECORD"
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}"
        for name, text in files.items()
    ]
    with zipfile.ZipFile(wheels / f"dermascan_edge-{version}-py3-none-any.whl", "w") as archive:
        for name, text in {**files, record: "\n".join([*lines, f"{record},,"])}.items():
            archive.writestr(name, text)
    shutil.copy(_pip(), wheels)
    shutil.copytree(REPOSITORY / "systemd", folder / "systemd")
    shutil.copy(REPOSITORY / "agent.example.toml", folder)
    (folder / "constraints.txt").write_text("")
    (folder / "EXTRAS").write_text("\n")
    (folder / "VERSION").write_text(version + "\n")
    return sealed(folder)


def sealed(folder: Path) -> Path:
    """Write the list of a release's files."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    sums = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
        if name != "SHA256SUMS"
    )
    (folder / "SHA256SUMS").write_text(sums)
    return folder


def _pip() -> Path:
    import ensurepip

    bundled = Path(ensurepip.__file__).parent / "_bundled"
    # Debian keeps the one of its own Python elsewhere; an older one does not know a newer Python.
    found = sorted(bundled.glob("pip-*.whl")) or sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    if not found:
        pytest.skip("this Python has no pip of its own to install with (package python3-venv)")
    return found[-1]


class PretendedMachine(Machine):
    """A device whose programs are this machine's, and whose systemd is a few lines."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.state = "inactive"
        self.said: list[str] = []
        self.live = True
        self.real_pip = False

    @property
    def booted(self) -> bool:
        return self.live

    def has(self, program: str) -> bool:
        return program == "/usr/bin/python3"

    def run(self, *command: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        if command[0] in ("systemctl", "journalctl"):
            return self._systemd(*command)
        words = [self._here(word) for word in command]
        if len(words) > 2 and words[2] == "install" and not self.real_pip:
            return self._unpack(Path(words[0]), Path(words[1]).parents[1])
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/", timeout=timeout_s)
        assert not check or done.returncode == 0, done.stderr
        return done

    def _unpack(self, python: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
        """What pip would do with the one wheel, in a hundredth of the time."""
        (packages,) = python.parents[1].glob("lib/python3*/site-packages")
        (wheel,) = wheels.glob("dermascan_edge-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
        script = python.parent / "dermascan"
        script.write_text(f"#!{python}\nfrom agent.cli import main\nmain()\n")
        script.chmod(0o755)
        return subprocess.CompletedProcess([], 0, "", "")

    def _here(self, word: str) -> str:
        if word == "/usr/bin/python3":
            return sys.executable
        return str(self.root / word[1:]) if word.startswith("/") else word

    def _systemd(self, *command: str) -> subprocess.CompletedProcess[str]:
        self.said.append(" ".join(command))
        answer, code = "", 0
        match command[1:]:
            case ("is-active", _):
                answer = self.state
            case ("is-enabled", unit):
                answer = "enabled" if any(self.root.glob(f"etc/systemd/system/*.wants/{unit}")) else "disabled"
            case ("restart", _):
                (starts,) = self.root.glob("opt/dermascan/lib/python3*/site-packages/agent/starts.txt")
                self.state, code = ("active", 0) if starts.read_text() == "True" else ("failed", 1)
            case ("stop", "dermascan-agent.service"):
                self.state = "inactive"
        return subprocess.CompletedProcess(command, code, answer + "\n", "")

    @property
    def restarts(self) -> int:
        return sum(word.startswith("systemctl restart") for word in self.said)


class Device:
    """A root folder, with what an installation into it said and did."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = PretendedMachine(root)
        self.owners: dict[Path, tuple[int, int]] = {}
        self.wishes = Wishes(device_id="room-2", clinic_id="clinic-a", dev=root / "dev")

    def chown(self, path: Path, uid: int, gid: int) -> None:
        self.owners[path] = (uid, gid)
        if os.geteuid() == 0:
            os.chown(path, uid, gid, follow_symlinks=False)

    def installation(self) -> Installation:
        return Installation(self.root, Journal(quiet=True), self.wishes, machine=self.machine, chown=self.chown)

    def install(self, folder: Path) -> Installation:
        installation = self.installation()
        installation.install(folder)
        return installation

    def removal(self) -> Removal:
        return Removal(self.root, Journal(quiet=True), machine=self.machine, chown=self.chown)

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    @property
    def running(self) -> str:
        return self.at("/opt/dermascan").readlink().name
