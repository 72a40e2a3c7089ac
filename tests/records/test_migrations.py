"""A new version of the software finds everything that an older one left, to the byte (F29)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from agent.messages.catalogue import ALERT
from agent.messages.envelope import parse
from agent.records.audit import AuditAction
from agent.records.audit_reading import verify
from agent.records.opening import connect
from agent.records.schema import SCHEMA_VERSION, STEPS, migrations, stamp_device, user_version

SCAN = (
    "INSERT INTO scans (scan_id, identity, path, path_bytes, dermoscope_id, state, backend, attempts, result,"
    " received_at, finished_at, boot_id, received_monotonic_ns, clock_trusted) VALUES"
    " (?, ?, '/a', x'2f61', 'scope-1', 'answered', 'cpu', 1, '{}', '2026-01-01T00:00:00.000Z',"
    " '2026-01-01T00:00:01.000Z', 'boot', 1, 1)"
)
EVENT = (
    "INSERT INTO outbox (event_id, scan_id, type, topic, event, state, attempts, reason, created_at) VALUES"
    " (?, ?, 'org.dermascan.result.v1', 'results', ?, ?, ?, ?, '2026-01-01T00:00:01.000Z')"
)
ROWS = 200


def rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608


def outbox(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        names = "seq, event_id, scan_id, type, topic, event, state, attempts, reason, created_at"
        (there,) = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outbox_events'").fetchone()
        source = "outbox JOIN outbox_events USING (seq)" if there else "outbox"
        return db.execute(f"SELECT {names} FROM {source} ORDER BY seq").fetchall()  # noqa: S608


@pytest.fixture
def first_version(state_dir: Path) -> Path:
    """A database as version 1 of the schema left it, its outbox full, with gaps and every state."""
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / "dermascan.db"
    with closing(connect(path, 64)) as db:
        migrations().apply(Database(db), stop_before="m002_events_of_the_device")
        stamp_device(db, "device-1")
        for number in range(ROWS):
            db.execute(SCAN, (f"scan-{number}", f"sha256:{number}"))
            state = ("waiting", "acknowledged", "dead")[number % 3]
            reason = "too large" if state == "dead" else None
            db.execute(
                EVENT, (f"event-{number}", f"scan-{number}", f"bytes {number} é".encode(), state, number, reason)
            )
        db.execute("DELETE FROM outbox WHERE seq IN (7, ?)", (ROWS,))
        assert user_version(db) == 1
    return path


@pytest.fixture
def second_version(first_version: Path) -> Path:
    """The same as version 2 left it, with what only that version knew."""
    with closing(connect(first_version, 64)) as db:
        migrations().apply(Database(db), stop_before="m003_the_cloud_speaks")
        for number, kind in enumerate(("alert", "of.a.version.yet.to.come"), ROWS + 1):
            db.execute(
                "INSERT INTO outbox (event_id, scan_id, type, topic, event, created_at)"
                " VALUES (?, NULL, ?, 'telemetry', ?, '2026-01-01T00:00:01.000Z')",
                (f"event-{number}", f"org.dermascan.{kind}.v1", f"bytes {number}".encode()),
            )
        db.execute("INSERT INTO streams VALUES ('telemetry', 2)")
        db.execute("INSERT INTO colour_watches VALUES ('scope-1', '{}')")
        assert user_version(db) == 2
    return first_version


@pytest.fixture
def third_version(second_version: Path) -> Path:
    """The same as version 3 left it, with a verdict, which no audit knows of."""
    with closing(connect(second_version, 64)) as db:
        migrations().apply(Database(db), stop_before="m004_who_did_what")
        db.execute(
            "INSERT INTO verdicts (verdict_id, scan_id, diagnosis, source, agreement, given_at, clock_trusted)"
            " VALUES ('v-1', 'scan-1', 'melanoma', 'clinician', 'no_suggestion', '2026-01-01T00:00:02.000Z', 1)"
        )
        assert user_version(db) == 3
    return second_version


@pytest.mark.fault("F29")
def test_an_older_version_gets_an_audit_and_loses_nothing(third_version: Path, open_store, state_dir) -> None:
    before = {table: rows(third_version, table) for table in ("scans", "verdicts", "streams")}
    events = outbox(third_version)
    assert len(events) == ROWS
    store = open_store()
    assert store.audit_head() == (0, "0" * 64)
    assert outbox(third_version) == events
    after = {table: rows(third_version, table) for table in before}
    for table, old in before.items():
        assert [row[: len(old[0])] for row in after[table]] == old, "columns may be added, at the end"
    store.verdict("scan-1", "melanoma", "clinician", verdict_id="v-1").result(10)
    assert store.audit_head()[0] == 0, "a verdict of before, told again, is not of today"
    assert store.audit(AuditAction.SIGN_IN, "Kim", "clinician", None, {}).result(10) == 1
    assert verify(state_dir).whole


@pytest.mark.fault("F29")
@pytest.mark.parametrize("version", ["first_version", "second_version", "third_version"])
def test_a_full_outbox_survives_the_upgrade_to_the_byte(version: str, request, open_store) -> None:
    path: Path = request.getfixturevalue(version)
    before = outbox(path)
    assert len(before) == ROWS - 2 + 2 * (version != "first_version")
    open_store().close()
    assert outbox(path) == before
    with closing(sqlite3.connect(path)) as db:
        assert user_version(db) == SCHEMA_VERSION
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.fault("F29")
def test_numbers_of_deleted_rows_are_not_used_again_after_the_upgrade(first_version: Path, open_store) -> None:
    store = open_store()
    store.keep_colour_watch("scope-1", "{}", {"kind": "colour_drift", "sentence": "x"}).result(10)
    store.close()
    assert outbox(first_version)[-1][0] == ROWS + 1


@pytest.mark.fault("F29")
def test_an_upgrade_that_breaks_off_leaves_the_old_version(first_version: Path, monkeypatch) -> None:
    before = outbox(first_version)
    broken = ("CREATE TABLE half_done (x) STRICT",)
    steps = (STEPS[0], (STEPS[1][0], ("DROP TABLE sightings", *broken)), *STEPS[2:])
    monkeypatch.setattr("agent.records.schema.STEPS", steps)
    with closing(connect(first_version, 64)) as db, pytest.raises(sqlite3.Error):
        migrations().apply(Database(db))
    with closing(sqlite3.connect(first_version)) as db:
        assert user_version(db) == 1
        assert db.execute("SELECT count(*) FROM sightings").fetchone() == (0,)
    assert outbox(first_version) == before


@pytest.mark.fault("F29")
def test_what_an_older_version_queued_is_sent_by_this_one(second_version: Path, open_store) -> None:
    waiting = {row[1]: bytes(row[5]) for row in outbox(second_version) if row[6] == "waiting"}
    dead = [row[1] for row in outbox(second_version) if row[6] == "dead"]
    store = open_store()
    due = store.outbox_due(1000, fresh_after_seq=0, exclude=())
    assert {row.event_id: row.event for row in due} == waiting
    assert len(waiting) > ROWS // 3
    assert store.outbox_acknowledge(waiting).result(10) == len(waiting)
    assert store.outbox_retry(None).result(10) == len(dead)
    assert [row.event_id for row in store.outbox_due(1000, fresh_after_seq=0, exclude=())] == dead
    alert = store.post(ALERT, "scope-1", {"kind": "colour_drift", "sentence": "x"}).result(10)
    (row,) = [row for row in store.outbox_due(1000, fresh_after_seq=0, exclude=dead) if row.event_id == alert]
    assert parse(row.event, [ALERT]).sequence == 3, "numbered on from where the older version stopped"


@pytest.mark.fault("F29")
def test_the_tables_are_the_same_however_the_database_came_to_them(third_version: Path, open_store, tmp_path) -> None:
    open_store().close()
    with closing(connect(tmp_path / "new.db", 64)) as db:
        migrations().apply(Database(db))
        new = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    with closing(sqlite3.connect(third_version)) as db:
        assert db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall() == new


@pytest.mark.fault("F29")
def test_a_database_at_its_quota_is_upgraded(first_version: Path, open_store) -> None:
    """The events are moved about, for which there must be room for as long as it takes."""
    with closing(sqlite3.connect(first_version)) as db:
        db.execute("UPDATE outbox SET event = zeroblob(50000)")
        db.commit()
    before = outbox(first_version)
    quota_mb = first_version.stat().st_size // 1024**2 + 1
    open_store(quota_mb=quota_mb).close()
    assert outbox(first_version) == before
    with closing(sqlite3.connect(first_version)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
