"""The device as the installer meets it: runs commands in it, whether it is this machine or a root folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.install.journal import InstallError

_SEARCH: Final = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
_LONGEST_S: Final = 1800.0


class Machine:
    """Runs commands in ``root``; "/" is this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def itself(self) -> bool:
        """Whether it is this very machine."""
        return self.root == Path("/")

    @property
    def booted(self) -> bool:
        """Whether systemd runs there and can be asked to start things."""
        return self.itself and Path("/run/systemd/system").is_dir()

    def has(self, program: str) -> bool:
        """Whether a program is there."""
        return any(os.access(self.root / folder.lstrip("/") / program, os.X_OK) for folder in _SEARCH)

    def run(self, *command: str, check: bool = True, timeout_s: float = _LONGEST_S) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root, without a shell.

        Raises:
            InstallError: it failed, and ``check`` is true; the sentence has the end of what it said.
        """
        words: Sequence[str] = command if self.itself else (_own("chroot"), str(self.root), *command)
        env = {"PATH": ":".join(_SEARCH), "LC_ALL": "C.UTF-8", "HOME": "/root", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                words, env=env, cwd="/", capture_output=True, text=True, timeout=timeout_s, check=False, umask=0o022
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InstallError(f"{' '.join(command)}: could not be run: {error}") from error
        if check and done.returncode != 0:
            said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:]) or "nothing"
            raise InstallError(f"{' '.join(command)}: failed (exit code {done.returncode}); it said: {said}")
        return done


def _own(program: str) -> str:
    """A program of this machine's, whatever PATH sudo left."""
    found = shutil.which(program, path=":".join(_SEARCH))
    if found is None:
        raise InstallError(f"{program}: is not on this machine, and --root needs it: install coreutils")
    return found
