"""Reads settings with the release that it belongs to, and tells the installer what is in them: JSON, or the faults."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    """``python -m agent.install.probe FILE``; exit codes: 0 read, 78 the settings are wrong."""
    from agent.config import ConfigError, load_config
    from agent.exits import EXIT_CONFIG

    try:
        config = load_config(Path(sys.argv[1]))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    folders = [str(scope.folder) for scope in config.dermoscopes]
    if config.export is not None:
        folders.append(str(config.export.folder))
    print(json.dumps({"state_dir": str(config.device.state_dir), "folders": folders}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
