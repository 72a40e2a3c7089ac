"""A device that is a folder, and a maker of releases for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.install.pretended import CAPTURES_GID, GID, UID, Device, pack


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device that has the accounts already, so that no program of this machine's is needed."""
    root = tmp_path / "root"
    etc = root / "etc"
    etc.mkdir(parents=True)
    (root / "dev").mkdir()
    (etc / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\ndermascan:x:{UID}:{GID}::/var/lib/dermascan:/bin/false\n")
    groups = {"root": 0, "dermascan": GID, "dermascan-captures": CAPTURES_GID, "video": 44, "render": 105}
    (etc / "group").write_text("".join(f"{name}:x:{number}:\n" for name, number in groups.items()))
    if os.geteuid() != 0:
        pytest.skip("owners can be given by root alone: start the tests of the installation as root")
    return Device(root)


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """Make a release: ``release("1.1", starts=False)``."""

    def make(version: str = "1.0", *, starts: bool = True, refuses: str = "REFUSED-BY-ALL") -> Path:
        return pack(tmp_path / f"release-{version}", version, starts=starts, refuses=refuses)

    return make
