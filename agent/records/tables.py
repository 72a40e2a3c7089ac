"""The SQL of every change that the tables of ``dermascan.db`` ever had, which `agent.records.schema` applies."""

from __future__ import annotations

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

WHAT_IS_KEPT = (
    # How much of a finished scan there still is: it goes one way, and the row itself stays (see docs/database.md).
    """
    ALTER TABLE scans ADD COLUMN kept TEXT NOT NULL DEFAULT 'whole'
        CHECK (kept IN ('whole', 'without_pictures', 'answer_only', 'erased'))
    """,
    # Which key sealed the patient's fields (NULL: none), and by what their rows are found without opening them.
    "ALTER TABLE scans ADD COLUMN sealed_by TEXT",
    "ALTER TABLE scans ADD COLUMN patient_index TEXT",
    "CREATE INDEX scans_by_key ON scans (sealed_by, seq)",
    "CREATE INDEX scans_by_patient ON scans (patient_index) WHERE patient_index IS NOT NULL",
    "CREATE INDEX scans_by_end ON scans (kept, finished_at) WHERE finished_at IS NOT NULL",
    "CREATE INDEX outbox_with_bytes ON outbox (seq) WHERE state = 'acknowledged' AND event <> x''",
    # A note may be sealed, sealed anew with another key, or erased with its patient; what was said stays what it was.
    "DROP TRIGGER verdicts_stay_as_they_are",
    """
    CREATE TRIGGER verdicts_stay_as_they_are BEFORE UPDATE ON verdicts
    WHEN NOT (NEW.seq IS OLD.seq AND NEW.verdict_id IS OLD.verdict_id AND NEW.scan_id IS OLD.scan_id
        AND NEW.image_sha256 IS OLD.image_sha256 AND NEW.diagnosis IS OLD.diagnosis AND NEW.source IS OLD.source
        AND NEW.agreement IS OLD.agreement AND NEW.supersedes IS OLD.supersedes AND NEW.suggestion IS OLD.suggestion
        AND NEW.given_by IS OLD.given_by AND NEW.given_at IS OLD.given_at AND NEW.clock_trusted IS OLD.clock_trusted
        AND (NEW.note IS NULL) >= (OLD.note IS NULL))
    BEGIN SELECT RAISE(ABORT, 'a verdict is never changed: give another one'); END
    """,
    "CREATE INDEX outbox_unsent_of_scan ON outbox (scan_id) WHERE state <> 'acknowledged'",
    # Files below state_dir that are to go, so that a crash between the decision and the deed leaves none behind.
    "CREATE TABLE removals (path TEXT PRIMARY KEY) STRICT",
    "CREATE TABLE keeping (name TEXT PRIMARY KEY, state TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT",
)

EVENTS_LIE_APART = (
    # A change of a row's length makes SQLite write all of it anew: beside 15 kB of event the cloud's word on a row cost
    # ten times as much (benchmarks/sync.md). The bytes are written once, read once, and then let go.
    """
    CREATE TABLE outbox_events (
        seq INTEGER PRIMARY KEY REFERENCES outbox (seq),
        event BLOB NOT NULL
    ) STRICT
    """,
    "INSERT INTO outbox_events SELECT seq, event FROM outbox WHERE event <> x'' ORDER BY seq",
    "DROP INDEX outbox_with_bytes",
    "ALTER TABLE outbox DROP COLUMN event",
)
