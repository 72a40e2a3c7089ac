"""``agent.toml``: made once from the example, never overwritten, tried with new software before that runs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.install.journal import InstallError, SettingsRefused
from agent.install.layout import Layout
from agent.install.machine import Machine

IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CAPTURES: Final = "/srv/dermascan/captures"


@dataclass(frozen=True)
class Facts:
    """What an installation has to know of the settings; paths are the device's own."""

    state_dir: str
    folders: tuple[str, ...]
    """Where dermoscopes write, and where answers are exported to."""


def first_settings(example: str, *, device_id: str | None, clinic_id: str | None) -> str:
    """The example with this device's names and the folders of this installation.

    Raises:
        InstallError: a name is not usable, or the example is not the one that this program knows.
    """
    for option, value in (("--device-id", device_id), ("--clinic-id", clinic_id)):
        if value is not None and not IDENTIFIER.fullmatch(value):
            raise InstallError(f'{option} {value!r}: 1 to 64 letters, digits, "-" or "_" are allowed')
    text = example
    changes: list[tuple[str, str]] = [(r'^folder = ".*"(?:\s*# CHANGE)?$', f'folder = "{_CAPTURES}/scope-1"')]
    if device_id:
        changes.append((r'^id = ".*"\s*# CHANGE$', f'id = "{device_id}"'))
    if clinic_id:
        changes.append((r'^clinic_id = ".*"\s*# CHANGE$', f'clinic_id = "{clinic_id}"'))
    for pattern, line in changes:
        text, found = re.subn(pattern, line, text, count=1, flags=re.MULTILINE)
        if not found:
            raise InstallError(f"agent.example.toml: has no line {pattern!r}: fetch the archive again")
    return text


def try_settings(layout: Layout, machine: Machine, release: Path) -> Facts:
    """Read the device's settings with a release that does not run yet.

    Raises:
        SettingsRefused: that release would not start with them; the text says which file, key and value.
    """
    settings = layout.seen_from_device(layout.settings)
    python = f"{layout.seen_from_device(release)}/bin/python"
    done = machine.run(python, "-m", "agent.install.probe", settings, check=False, timeout_s=120)
    if done.returncode != 0:
        raise SettingsRefused(
            f"{(done.stderr or done.stdout).strip()}\nThe settings do not fit this release; nothing was changed over."
        )
    told: dict[str, Any] = json.loads(done.stdout)
    return Facts(state_dir=str(told["state_dir"]), folders=tuple(str(folder) for folder in told["folders"]))


def captures_folders(layout: Layout, facts: Facts) -> list[Path]:
    """Dermoscopes' folders that belong below ours, and so are ours to make."""
    return [layout.at(folder) for folder in facts.folders if folder.startswith(f"{_CAPTURES}/")]
