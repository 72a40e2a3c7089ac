"""Writes the demonstration's ``agent.toml``: a real settings file, which ``dermascan run`` takes as well."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import engines
from engines.backend import BundleError

SETTINGS_NAME: Final = "agent.toml"
CAPTURES: Final = "captures"
"""The simulated dermoscope's folder, inside the state folder."""
RESULTS: Final = "results"

_TEXT: Final = """\
# Written by `dermascan demo` each time it starts: SIMULATED pictures, demonstration weights, not for clinical use.
# The same agent runs on these settings without the simulated dermoscope: dermascan run --config {settings}

[device]
id = "demo-device"
clinic_id = "demo-clinic"
state_dir = "."              # holds dermascan.db and results/; paths are relative to this file

[[dermoscope]]
id = "simulated"
folder = "{captures}"

[inference]
bundle = {bundle}
ladder = ["cpu"]
deadline_s = 3.0
"""


def demo_bundle(models: Path | None = None) -> Path:
    """The folder of the demonstration bundle's highest version, under ``models`` (default: the installed engines').

    Raises:
        BundleError: there is none.
    """
    models = models or Path(engines.__file__).parent / "models"
    versions = [path for path in (models / "demo").glob("*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    if not versions:
        raise BundleError(f"{models / 'demo'}: holds no bundle; install dermascan-edge again, or get a whole checkout")
    return max(versions, key=lambda path: tuple(int(part) for part in path.name.split(".")))


def write_settings(state: Path, bundle: Path) -> Path:
    """Make the state folder with its ``agent.toml`` and the dermoscope's folder; returns the settings file."""
    (state / CAPTURES).mkdir(parents=True, exist_ok=True)
    path = state / SETTINGS_NAME
    # A JSON string is a TOML string, as long as no character is written as an escaped surrogate pair.
    text = _TEXT.format(settings=path, captures=CAPTURES, bundle=json.dumps(str(bundle.absolute()), ensure_ascii=False))
    path.write_text(text, encoding="utf-8")
    return path
