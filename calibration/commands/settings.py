"""What the commands need of the agent's settings, read without the agent: the shelf's place, the dermoscopes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from calibration.shelf.profile import MAX_AGE_DAYS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLACES: Final = (Path("agent.toml"), Path("/etc/dermascan/agent.toml"))


class SettingsError(Exception):
    """The settings cannot be used: one sentence with file, key and what to do."""


@dataclass(frozen=True)
class Settings:
    """The part of ``agent.toml`` that a visit needs."""

    state_dir: Path
    dermoscopes: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """Id to the folder it writes to; empty where only ``--state-dir`` was given: any id will do then."""
    max_age_days: int = MAX_AGE_DAYS
    limits: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """``[calibration.limits]``: the gates that differ from the built-in ones."""


def find_settings(arguments: argparse.Namespace) -> Settings:
    """The settings that the command line names, or those that lie where the agent's usually are.

    Raises:
        SettingsError: none found, or not usable.
    """
    state_dir: Path | None = getattr(arguments, "state_dir", None)
    config: Path | None = getattr(arguments, "config", None)
    if config is None and state_dir is not None:
        return Settings(state_dir.expanduser().absolute())
    if config is None:
        config = next((path for path in PLACES if path.is_file()), None)
    if config is None:
        raise SettingsError(
            "No settings found: name the agent's with --config agent.toml, or its state folder with --state-dir DIR."
        )
    settings = read_settings(config)
    return (
        settings
        if state_dir is None
        else Settings(state_dir.expanduser().absolute(), settings.dermoscopes, settings.max_age_days, settings.limits)
    )


def read_settings(path: Path) -> Settings:
    """Read ``[device].state_dir``, the dermoscopes' ids and ``[calibration]``; all else is the agent's affair.

    Raises:
        SettingsError: unreadable, or one of these is missing or not usable.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); give the agent's file with --config."
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: is not valid TOML ({error}); mend the file.") from error
    folder = path.absolute().parent
    state_dir = _table(path, content, "device").get("state_dir")
    if not isinstance(state_dir, str) or not state_dir:
        raise SettingsError(f"{path}: device.state_dir: is missing; add it, or use --state-dir DIR.")
    scopes: dict[str, Path] = {}
    blocks = content.get("dermoscope", [])
    for block in blocks if isinstance(blocks, list) else []:
        if isinstance(block, dict) and isinstance(block.get("id"), str):
            scopes[block["id"]] = folder / Path(str(block.get("folder", ""))).expanduser()
    calibration = _table(path, content, "calibration")
    days = calibration.get("max_age_days", MAX_AGE_DAYS)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 3650:
        raise SettingsError(f"{path}: calibration.max_age_days = {days!r}: not usable; allowed are 1 to 3650 days.")
    limits = _table(path, calibration, "limits")
    for key, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise SettingsError(
                f"{path}: calibration.limits.{key} = {value!r}: not usable; allowed is a number above 0."
            )
    return Settings(
        (folder / Path(state_dir).expanduser()).absolute(),
        MappingProxyType(scopes),
        days,
        MappingProxyType({key: float(value) for key, value in limits.items()}),
    )


def _table(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {key}: must be a table ([{key}]); see agent.example.toml.")
    return table
