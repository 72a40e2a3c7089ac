"""The tables of ``dermascan.db``, their migrations, and the stamps by which the file is known as ours (F10)."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from agent.records.tables import (
    A_VERDICT_IS_WITHDRAWN,
    EVENTS_LIE_APART,
    EVENTS_OF_THE_DEVICE,
    OUTBOX_RANK,
    TABLES,
    THE_CLOUD_SPEAKS,
    WHAT_IS_KEPT,
    WHO_DID_WHAT,
)

__all__ = [
    "APPLICATION_ID",
    "OUTBOX_RANK",
    "SCHEMA_VERSION",
    "STEPS",
    "TABLES",
    "migrate",
    "stamp_device",
    "user_version",
]

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x44534544
"""``"DSED"`` in ASCII, as ``PRAGMA application_id``: a zero-length or foreign file does not have it."""

SCHEMA_VERSION = 7
"""``PRAGMA user_version``: the number of migrations applied. A file of a newer one is refused, never rewritten."""

STEPS = (
    ("m001_first_tables", (*TABLES, f"PRAGMA application_id = {APPLICATION_ID}")),
    ("m002_events_of_the_device", EVENTS_OF_THE_DEVICE),
    ("m003_the_cloud_speaks", THE_CLOUD_SPEAKS),
    ("m004_who_did_what", WHO_DID_WHAT),
    ("m005_a_verdict_is_withdrawn", A_VERDICT_IS_WITHDRAWN),
    ("m006_what_is_kept", WHAT_IS_KEPT),
    ("m007_events_lie_apart", EVENTS_LIE_APART),
)
"""Every change the schema ever had, oldest first. Rows outlive the software: nothing here drops one (F29)."""


def migrations() -> Migrations:
    """The steps, each of which says that it was done."""
    from sqlite_utils import Migrations  # only where there is something to migrate: it costs 10 MB and 0.1 s

    steps = Migrations("dermascan")
    for version, (name, statements) in enumerate(STEPS, 1):

        def step(db: Database, statements: tuple[str, ...] = statements, version: int = version) -> None:
            for statement in (*statements, f"PRAGMA user_version = {version}"):
                db.execute(statement)

        steps(name=name)(step)
    return steps


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables of an open connection (autocommit mode) up to ``SCHEMA_VERSION``."""
    if user_version(connection) == SCHEMA_VERSION:
        return
    from sqlite_utils import Database

    migrations().apply(Database(connection))


def user_version(connection: sqlite3.Connection) -> int:
    """Which schema the file says it has."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def stamp_device(connection: sqlite3.Connection, device_id: str) -> None:
    """Write whose database this is; once, at its making."""
    connection.execute("INSERT INTO device (only_row, id) VALUES (1, ?)", (device_id,))
