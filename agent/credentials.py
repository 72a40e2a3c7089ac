"""Secrets that the service manager hands over: the same path in ``agent.toml`` for it and for an administrator.

``/etc/dermascan/credentials`` is root's alone. The service finds a copy of each file there in
``$CREDENTIALS_DIRECTORY`` (LoadCredential= of systemd.exec), which nobody else can read; a command that root starts
reads the file itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = "credentials"
"""The name of the folder of secrets, beside the settings."""
HANDED_OVER: Final = "CREDENTIALS_DIRECTORY"


def handed_over(path: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where to read a file that the settings name: the copy handed over where there is one, else the file itself."""
    given = environment.get(HANDED_OVER)
    if given and path.parent.name == FOLDER:
        copy = Path(given, path.name)
        if copy.is_file():
            return copy
    return path
