"""A release is believed only whole, and packed as we say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.install.journal import InstallError
from agent.install.release import SUMS, open_release
from tests.install.pretended import REPOSITORY, pack, sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pack(tmp_path / "release", "1.0")


def test_a_whole_release_is_opened(folder: Path) -> None:
    release = open_release(folder)
    assert release.version == "1.0"
    assert release.id.startswith("1.0-")
    (folder / "constraints.txt").write_text("# another build of the same version\n")
    assert open_release(sealed(folder)).id != release.id


def _changed(folder: Path) -> None:
    wheel = next(folder.glob("wheels/dermascan*.whl"))
    wheel.write_bytes(wheel.read_bytes().replace(b"dermascan", b"dermascam", 1))


def _missing(folder: Path) -> None:
    next(folder.glob("wheels/pip*.whl")).unlink()


def _added(folder: Path) -> None:
    (folder / "wheels" / "zzz-1-py3-none-any.whl").write_bytes(b"")


def _linked(folder: Path) -> None:
    (folder / "constraints.txt").unlink()
    (folder / "constraints.txt").symlink_to("VERSION")


def _climbing(folder: Path) -> None:
    (folder / SUMS).write_text(f"{'0' * 64}  ../../etc/passwd\n")


def _garbled(folder: Path) -> None:
    (folder / SUMS).write_bytes(b"\xff\x00 nothing of the kind")


def _without_a_list(folder: Path) -> None:
    (folder / SUMS).unlink()


def _without_units(folder: Path) -> None:
    (folder / "systemd/dermascan-agent.service").unlink()
    sealed(folder)


def _odd_version(folder: Path) -> None:
    (folder / "VERSION").write_text("../../../tmp\n")
    sealed(folder)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_changed, "damaged or was changed"),
        (_missing, "is missing"),
        (_added, "not in the release's list"),
        (_linked, "damaged or was changed"),
        (_climbing, "not readable"),
        (_garbled, "not readable"),
        (_without_a_list, "is no release"),
        (_without_units, "has no systemd/dermascan-agent.service"),
        (_odd_version, "is no version"),
    ],
)
def test_anything_else_is_refused_with_the_remedy(folder: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(folder)
    with pytest.raises(InstallError, match=says):
        open_release(folder)


def test_the_installer_runs_on_a_device_that_has_nothing_but_python(folder: Path, tmp_path: Path) -> None:
    """As install.sh does it: from the wheel's own files, without one package of others."""
    (tmp_path / "dermascan_edge-1.0.dist-info").mkdir()
    (tmp_path / "dermascan_edge-1.0.dist-info/METADATA").write_text("Name: dermascan-edge\nVersion: 1.0\n")
    (tmp_path / "agent").symlink_to(REPOSITORY / "agent")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from agent.install.commands import main
before = set(sys.modules)
try:
    main(["install", "--help"])
except SystemExit:
    pass
ours = [name for name in sys.modules if name.split(".")[0] not in sys.stdlib_module_names | {{"agent", "__main__"}}]
print("FOREIGN", ours)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert "FOREIGN []" in done.stdout
    assert "--rollback" in done.stdout
