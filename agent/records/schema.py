"""The tables of ``dermascan.db``, their migrations, and the stamps by which the file is known as ours (F10)."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x44534544
"""``"DSED"`` in ASCII, as ``PRAGMA application_id``: a zero-length or foreign file does not have it."""

SCHEMA_VERSION = 5
"""``PRAGMA user_version``: the number of migrations applied. A file of a newer one is refused, never rewritten."""

TABLES = (
    """
    CREATE TABLE device (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        id TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE scans (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        scan_id TEXT NOT NULL UNIQUE,
        identity TEXT NOT NULL UNIQUE,
        image_sha256 TEXT,
        path TEXT NOT NULL,
        path_bytes BLOB NOT NULL,
        dermoscope_id TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('received', 'answered', 'rejected')),
        reason TEXT,
        sentence TEXT,
        backend TEXT,
        attempts INTEGER NOT NULL CHECK (attempts >= 1),
        metadata TEXT NOT NULL DEFAULT '{}',
        result TEXT,
        received_at TEXT NOT NULL,
        finished_at TEXT,
        boot_id TEXT NOT NULL,
        received_monotonic_ns INTEGER NOT NULL,
        clock_trusted INTEGER NOT NULL CHECK (clock_trusted IN (0, 1)),
        files_written INTEGER NOT NULL DEFAULT 0 CHECK (files_written IN (0, 1)),
        CHECK ((state = 'received') = (finished_at IS NULL)),
        CHECK ((state = 'received') = (result IS NULL)),
        CHECK ((state = 'answered') = (backend IS NOT NULL)),
        CHECK ((state = 'rejected') = (reason IS NOT NULL AND sentence IS NOT NULL))
    ) STRICT
    """,
    "CREATE INDEX scans_by_state ON scans (state, seq)",
    "CREATE INDEX scans_without_files ON scans (seq) WHERE files_written = 0 AND state <> 'received'",
    """
    CREATE TABLE sightings (
        dermoscope_id TEXT NOT NULL,
        path_bytes BLOB NOT NULL,
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        scan_id TEXT NOT NULL REFERENCES scans (scan_id),
        PRIMARY KEY (dermoscope_id, path_bytes)
    ) STRICT
    """,
    "CREATE INDEX sightings_by_path ON sightings (path_bytes)",
    "CREATE INDEX sightings_by_scan ON sightings (scan_id)",
    """
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        scan_id TEXT NOT NULL REFERENCES scans (scan_id),
        type TEXT NOT NULL,
        topic TEXT NOT NULL,
        event BLOB NOT NULL,
        state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'acknowledged', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        created_at TEXT NOT NULL,
        UNIQUE (scan_id, type)
    ) STRICT
    """,
    "CREATE INDEX outbox_by_state ON outbox (state, seq)",
)


EVENTS_OF_THE_DEVICE = (
    # An event need not be of a scan (an alert), and a scan may come to have several of a kind (verdicts).
    """
    CREATE TABLE new_outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        scan_id TEXT REFERENCES scans (scan_id),
        type TEXT NOT NULL,
        topic TEXT NOT NULL,
        event BLOB NOT NULL,
        state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'acknowledged', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        created_at TEXT NOT NULL
    ) STRICT
    """,
    "INSERT INTO new_outbox SELECT * FROM outbox ORDER BY seq",
    "DELETE FROM sqlite_sequence WHERE name = 'new_outbox'",
    "INSERT INTO sqlite_sequence SELECT 'new_outbox', seq FROM sqlite_sequence WHERE name = 'outbox'",
    "DROP TABLE outbox",
    "ALTER TABLE new_outbox RENAME TO outbox",
    "CREATE INDEX outbox_by_state ON outbox (state, seq)",
    "CREATE UNIQUE INDEX outbox_result_of_scan ON outbox (scan_id) WHERE type = 'org.dermascan.result.v1'",
    "CREATE TABLE streams (topic TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT",
    "CREATE TABLE colour_watches (dermoscope_id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT",
)

OUTBOX_RANK = "CASE type WHEN 'org.dermascan.feedback.v1' THEN 0 WHEN 'org.dermascan.telemetry.v1' THEN 2 ELSE 1 END"
"""How urgent an event is, the least first, by its type; of the types that other versions know, too (F29).

The index ``outbox_due`` is made over this very expression: whoever changes it makes the index anew, in a migration.
"""

THE_CLOUD_SPEAKS = (
    f"CREATE INDEX outbox_due ON outbox ({OUTBOX_RANK}) WHERE state = 'waiting'",
    # To count without reading events: only with the state in it does SQLite leave the table alone.
    "CREATE INDEX outbox_waiting_by_topic ON outbox (topic, state) WHERE state = 'waiting'",
    # Append-only: who said what, and when, outlives every change of mind. No reference is a foreign key: a verdict that
    # a damaged database still holds is worth keeping without its scan, which becomes the same scan again (F10).
    """
    CREATE TABLE verdicts (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        verdict_id TEXT NOT NULL UNIQUE,
        scan_id TEXT NOT NULL,
        image_sha256 TEXT,
        diagnosis TEXT NOT NULL,
        source TEXT NOT NULL,
        agreement TEXT NOT NULL CHECK (agreement IN ('confirmation', 'correction', 'no_suggestion')),
        supersedes TEXT UNIQUE,
        suggestion TEXT,
        given_by TEXT,
        note TEXT,
        given_at TEXT NOT NULL,
        clock_trusted INTEGER NOT NULL CHECK (clock_trusted IN (0, 1)),
        CHECK ((agreement = 'no_suggestion') = (suggestion IS NULL))
    ) STRICT
    """,
    "CREATE INDEX verdicts_of_scan ON verdicts (scan_id, seq)",
    """
    CREATE TRIGGER verdicts_stay_as_they_are BEFORE UPDATE ON verdicts
    BEGIN SELECT RAISE(ABORT, 'a verdict is never changed: give another one'); END
    """,
    """
    CREATE TRIGGER verdicts_stay BEFORE DELETE ON verdicts
    BEGIN SELECT RAISE(ABORT, 'a verdict is never deleted: give another one'); END
    """,
    # Nor here: histopathology may come for a scan that this database has lost, or not yet.
    """
    CREATE TABLE ground_truth (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        scan_id TEXT NOT NULL,
        diagnosis TEXT NOT NULL,
        data TEXT NOT NULL,
        sent_at TEXT,
        received_at TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX ground_truth_of_scan ON ground_truth (scan_id, seq)",
    """
    CREATE TABLE commands_seen (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        data TEXT NOT NULL,
        received_at TEXT NOT NULL
    ) STRICT
    """,
)

WHO_DID_WHAT = (
    # Append-only, and each row sealed with the one before it. An action that this version does not know stays (F29).
    """
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        clock_trusted INTEGER NOT NULL CHECK (clock_trusted IN (0, 1)),
        boot_id TEXT NOT NULL,
        who TEXT NOT NULL,
        role TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT,
        detail TEXT NOT NULL,
        reference TEXT UNIQUE,
        previous_hash TEXT NOT NULL,
        hash TEXT NOT NULL UNIQUE
    ) STRICT
    """,
    """
    CREATE TRIGGER audit_stays_as_it_is BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is never changed'); END
    """,
    """
    CREATE TRIGGER audit_stays BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'nothing is ever deleted from the audit'); END
    """,
    # INSERT OR REPLACE deletes without asking the trigger above.
    """
    CREATE TRIGGER audit_is_only_added_to BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq OR hash = NEW.hash OR reference = NEW.reference)
    BEGIN SELECT RAISE(ABORT, 'nothing in the audit is ever replaced'); END
    """,
)

A_VERDICT_IS_WITHDRAWN = (
    # A verdict without a diagnosis withdraws the one before it. The numbers go on where they were (see m002).
    """
    CREATE TABLE new_verdicts (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        verdict_id TEXT NOT NULL UNIQUE,
        scan_id TEXT NOT NULL,
        image_sha256 TEXT,
        diagnosis TEXT,
        source TEXT NOT NULL,
        agreement TEXT NOT NULL CHECK (agreement IN ('confirmation', 'correction', 'no_suggestion', 'withdrawn')),
        supersedes TEXT UNIQUE,
        suggestion TEXT,
        given_by TEXT,
        note TEXT,
        given_at TEXT NOT NULL,
        clock_trusted INTEGER NOT NULL CHECK (clock_trusted IN (0, 1)),
        CHECK ((agreement = 'withdrawn') = (diagnosis IS NULL)),
        CHECK (agreement = 'withdrawn' OR (agreement = 'no_suggestion') = (suggestion IS NULL)),
        CHECK (agreement <> 'withdrawn' OR supersedes IS NOT NULL)
    ) STRICT
    """,
    "INSERT INTO new_verdicts SELECT * FROM verdicts ORDER BY seq",
    "DELETE FROM sqlite_sequence WHERE name = 'new_verdicts'",
    "INSERT INTO sqlite_sequence SELECT 'new_verdicts', seq FROM sqlite_sequence WHERE name = 'verdicts'",
    "DROP TABLE verdicts",
    "ALTER TABLE new_verdicts RENAME TO verdicts",
    *(statement for statement in THE_CLOUD_SPEAKS if "verdicts_" in statement),
    # The list of a day's scans, without reading the answers of all others.
    "CREATE INDEX scans_by_time ON scans (received_at)",
)


STEPS = (
    ("m001_first_tables", (*TABLES, f"PRAGMA application_id = {APPLICATION_ID}")),
    ("m002_events_of_the_device", EVENTS_OF_THE_DEVICE),
    ("m003_the_cloud_speaks", THE_CLOUD_SPEAKS),
    ("m004_who_did_what", WHO_DID_WHAT),
    ("m005_a_verdict_is_withdrawn", A_VERDICT_IS_WITHDRAWN),
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
