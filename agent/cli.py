"""The ``dermascan`` command: collects the rooms' own commands and runs the one that was asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from agent import __version__
from agent.config import ConfigError
from agent.exits import EXIT_CONFIG
from engines.backend import BundleError

ENTRY_POINT_GROUP = "dermascan.commands"


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command that is installed: a device without the build stage simply lacks its commands."""
    parser = argparse.ArgumentParser(
        prog="dermascan",
        description="Explained answers for dermoscopic pictures, on the device. An adjunct for trained clinicians.",
    )
    parser.add_argument("--version", action="version", version=f"dermascan {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        entry.load()(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except (ConfigError, BundleError) as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except BrokenPipeError:
        # The reader went away ("dermascan scans | head"): nothing is wrong, and nobody is left to tell.
        sys.stderr.close()
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
