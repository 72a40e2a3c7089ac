"""``dermascan engine``: the group of verbs about engine bundles, which more than one room brings."""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points
from typing import Final

ENTRY_POINT_GROUP: Final = "dermascan.engine_commands"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group and every verb that is installed."""
    group = subparsers.add_parser(
        "engine",
        help="export, compile, verify, sign and activate model bundles",
        description="From a trained checkpoint to an engine that may answer: export, sign, compile, verify, activate.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        entry.load()(verbs)
