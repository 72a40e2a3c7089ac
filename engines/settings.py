"""What the engine commands need of ``agent.toml``: where bundles lie, and whose signature is believed.

The agent checks the whole file (``agent.config``); here every other section is left alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engines.backend import BundleError
from engines.files import read_small
from engines.trust.verifying import Trust

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRUST_DIR: Final = "trust"
"""``inference.trust_dir`` where it is not given: beside the settings file."""
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class ModelSettings:
    """The part of ``[inference]`` that is about bundles; paths are absolute."""

    bundle: Path | None
    models: Path | None
    trust: Trust


def read_model_settings(path: Path) -> ModelSettings:
    """Read ``[inference]`` of a settings file.

    Raises:
        BundleError: the file cannot be read, or a key has a value that it cannot have.
    """
    try:
        content = tomllib.loads(read_small(path, _MAX_BYTES).decode())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); give the settings with --config FILE") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise BundleError(f"{path}: is not valid TOML: {error}") from error
    section = content.get("inference", {})
    if not isinstance(section, dict):
        raise BundleError(f"{path}: inference: must be a section")
    required = section.get("require_trusted", True)
    if not isinstance(required, bool):
        raise BundleError(f"{path}: inference.require_trusted = {required!r}: not usable; allowed is true or false")
    return ModelSettings(
        _path(path, section, "bundle"),
        _path(path, section, "models"),
        Trust(_path(path, section, "trust_dir") or path.absolute().parent / TRUST_DIR, required),
    )


def _path(file: Path, section: dict[str, Any], key: str) -> Path | None:
    value = section.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BundleError(f"{file}: inference.{key} = {value!r}: not usable; allowed is the path of a folder")
    return Path(file.parent, Path(value).expanduser()).absolute()
