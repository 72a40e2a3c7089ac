"""``dermascan calibrate``: the technician's visit, from a chart before the dermoscope to an activated profile."""

from __future__ import annotations

import argparse


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the group; what a verb needs is imported when it runs."""
    from calibration.commands.parser import add_group

    add_group(subparsers)
