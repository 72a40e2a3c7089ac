"""A Debian of the tests' own with a real systemd in namespaces of its own, and the packed agent to install in it.

Needs root, debootstrap, a cgroup v2 hierarchy, and (the first time) a Debian mirror; who lacks one is told which.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PYTHON = "python3.11"
"""Of that suite."""
PACKAGES = "systemd,systemd-sysv,dbus,python3"


def cgroup_root() -> Path | None:
    """Where this machine's cgroup v2 hierarchy is mounted."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def why_not() -> str | None:
    """What keeps a systemd from being booted here."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if missing := [name for name in ("debootstrap", "unshare", "nsenter", "pivot_root") if shutil.which(name) is None]:
        return f"booting a systemd needs {', '.join(missing)} (packages debootstrap and util-linux)"
    if cgroup_root() is None:
        return "booting a systemd needs a cgroup v2 hierarchy, and none is mounted"
    if shutil.which(PYTHON) is None:
        return f"packing for Debian {SUITE} needs {PYTHON}"
    return None


def debian() -> Path:
    """A minimal Debian, made once and kept outside the checkout; never changed."""
    kept = Path(os.environ.get("DERMASCAN_TEST_DEBIAN", Path(tempfile.gettempdir()) / f"dermascan-debian-{SUITE}"))
    if not kept.exists():
        fresh = kept.with_name(f"{kept.name}.{os.getpid()}")
        done = subprocess.run(
            [shutil.which("debootstrap") or "", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(fresh)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            pytest.skip(f"no Debian could be fetched: {done.stdout.strip().splitlines()[-1:]}")
        shutil.rmtree(fresh / "var/cache/apt", ignore_errors=True)
        fresh.rename(kept)
    return kept


def packed(folder: Path) -> Path:
    """The release of this checkout, as ``make package`` makes it, unpacked; returns its folder."""
    env = {**os.environ, "PYTHONS": PYTHON, "PYTHON": sys.executable, "EXTRAS": ""}
    subprocess.run([str(REPOSITORY / "scripts/package.sh"), str(folder / "dist")], check=True, env=env)
    (archive,) = (folder / "dist").glob("*.tar.gz")
    subprocess.run(["/bin/tar", "-xzf", str(archive), "-C", str(folder)], check=True)
    return next(folder.glob("dermascan-edge-*"))


class Booted:
    """A device: a copy of the Debian, with systemd as its process 1."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cgroup = (cgroup_root() or Path()) / f"dermascan-test-{os.getpid()}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> float:
        """Boot it; returns how long that took, in seconds."""
        began = time.monotonic()
        self._cgroup.mkdir(exist_ok=True)
        enter = (
            f"echo $$ > {self._cgroup}/cgroup.procs; exec unshare --mount --pid --fork --kill-child --uts --ipc --net "
        )
        enter += f"--cgroup {REPOSITORY / 'tests/systemd/boot.sh'} {self.root}"
        self._outer = subprocess.Popen(
            ["/bin/bash", "-c", enter], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=2
        )
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self.wait(lambda: bool(children.read_text()), "no process 1")
        self._init = int(children.read_text().split()[0])
        self.wait(
            lambda: self.says("systemctl", "is-system-running") in ("running", "degraded"), "systemd does not come up"
        )
        return time.monotonic() - began

    def off(self) -> None:
        """A power cut."""
        if self._outer is not None:
            os.kill(self._init, 9)
            self._outer.wait(20)
            self._outer = None
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            self.wait(lambda folder=folder: _gone(Path(folder)), f"{folder} is still in use")  # type: ignore[misc]

    def run(self, *command: str, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as its root."""
        words = ["nsenter", "--target", str(self._init), "--all", "--", *command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done  # type: ignore[no-any-return]

    def says(self, *command: str) -> str:
        """What a command prints, whatever its exit code."""
        return self.run(*command, check=False).stdout.strip()

    def show(self, name: str, unit: str = "dermascan-agent.service") -> str:
        """A property of a unit."""
        return self.says("systemctl", "show", "--value", "--property", name, unit)

    def signal(self, name: str) -> None:
        """Send the agent's main process a signal."""
        self.run("systemctl", "kill", "--kill-who=main", f"--signal={name}", "dermascan-agent.service")

    def log(self, unit: str = "dermascan-agent.service") -> str:
        """All that a unit said, and what systemd said of it."""
        self.run("journalctl", "--sync", check=False)
        return self.says("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def drop_in(self, text: str | None, unit: str = "dermascan-agent.service") -> None:
        """An administrator's own changes to a unit; None takes them away."""
        path = self.at(f"/etc/systemd/system/{unit}.d/99-test.conf")
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self.run("systemctl", "daemon-reload")

    def at(self, path: str) -> Path:
        """A place in it, from outside."""
        return self.root / path.lstrip("/")

    def wait(self, until: Callable[[], bool], otherwise: str, timeout_s: float = 30.0) -> None:
        """Wait for something to become true."""
        ends = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < ends, otherwise
            time.sleep(0.02)


def _gone(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
