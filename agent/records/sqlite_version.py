"""Whether this SQLite has the checkpoint race of F09, and why the store is safe with it all the same."""

from __future__ import annotations

import sqlite3

Version = tuple[int, int, int]

FIRST_BAD: Version = (3, 7, 0)
FIXED: Version = (3, 51, 3)
BACKPORTS: tuple[Version, ...] = ((3, 50, 7), (3, 44, 6))
"""First fixed releases of older branches."""


def is_safe(version: Version) -> bool:
    """False where committed pages may be lost when one connection checkpoints while another writes."""
    if version < FIRST_BAD or version >= FIXED:
        return True
    return any(version[:2] == fixed[:2] and version >= fixed for fixed in BACKPORTS)


def explain(version: Version | None = None) -> str:
    """One sentence for the log and for ``doctor``; of the SQLite that runs here, unless told which."""
    version = version or running()
    text = ".".join(map(str, version))
    if is_safe(version):
        return f"SQLite {text}: without the checkpoint race."
    return (
        f"SQLite {text} can lose committed pages when one connection checkpoints while another writes (fixed in "
        "3.51.3, 3.50.7 and 3.44.6). The store is safe with it: one connection both writes and checkpoints, and the "
        "commands only read. Never write to the database with another program while the agent runs."
    )


def running() -> Version:
    """The version of the SQLite library in this Python."""
    major, minor, patch = sqlite3.sqlite_version_info
    return major, minor, patch
