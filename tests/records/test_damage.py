"""A damaged database is never started over silently (F10)."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.messages.catalogue import ALERT
from agent.records import opening
from agent.records.messages import event_id_of
from agent.records.schema import SCHEMA_VERSION
from agent.records.store import ClaimOutcome, StoreError

ANSWERED = 40
PAGE = 4096


@pytest.fixture
def database(open_store, claim, answer_json, state_dir) -> Path:
    """A closed database with 40 answered scans and one unfinished."""
    store = open_store()
    for number in range(ANSWERED):
        scan_id = claim(store, str(number)).scan_id
        store.answer(scan_id, answer_json(scan_id), "cpu").result(10)
    claim(store, "left")
    store.close()
    return state_dir / "dermascan.db"


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def answers_without_event(store) -> int:
    ask = (
        "SELECT count(*) FROM scans WHERE state = 'answered'"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.scan_id = scans.scan_id)"
    )
    return store.look(lambda db: db.execute(ask).fetchone()[0])


def quarantined(state_dir: Path) -> list[str]:
    return sorted(str(file.relative_to(state_dir / "quarantine")) for file in state_dir.glob("quarantine/*/*"))


def errors(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.fault("F10")
def test_truncated_to_zero(open_store, claim, database, state_dir, caplog):
    database.write_bytes(b"")
    store = open_store()
    assert any("it is empty" in line for line in errors(caplog))
    assert quarantined(state_dir) == ["1/REASON", "1/SALVAGED", "1/dermascan.db"]
    again = claim(store, "0")
    assert again.outcome is ClaimOutcome.NEW


@pytest.mark.fault("F10")
def test_a_capture_claimed_again_after_a_loss_is_the_same_scan_and_event(open_store, claim, database):
    with closing(sqlite3.connect(database)) as connection:
        (before,) = connection.execute("SELECT scan_id FROM scans ORDER BY seq").fetchone()
        (event_id,) = connection.execute("SELECT event_id FROM outbox WHERE scan_id = ?", (before,)).fetchone()
    database.write_bytes(b"")
    again = claim(open_store(), "0")
    assert again.scan_id == before
    assert event_id_of(before, "org.dermascan.result.v1") == event_id


@pytest.mark.fault("F10")
@pytest.mark.parametrize("length", [16, 100])
def test_a_bad_header_loses_no_row(open_store, claim, database, caplog, length):
    change(database, 0, b"\xa5" * length)
    store = open_store()
    counts = store.counts()
    assert (counts.answered, counts.received, counts.waiting) == (ANSWERED, 1, ANSWERED)
    assert claim(store, "0").outcome is ClaimOutcome.KNOWN
    assert any("first bytes" in line for line in errors(caplog))
    assert (database.parent / "quarantine" / "1" / database.name).read_bytes()[:length] == b"\xa5" * length, (
        "evidence kept"
    )


@pytest.mark.fault("F10")
def test_a_damaged_page_costs_only_its_rows(open_store, claim, database, caplog):
    pages = database.stat().st_size // PAGE
    with closing(sqlite3.connect(database)) as connection:
        (last,) = connection.execute("SELECT max(seq) FROM scans").fetchone()
        assert last == ANSWERED + 1
    for page in range(pages // 2, pages // 2 + 3):  # leaves in the middle of the file
        change(database, page * PAGE, b"\xa5" * PAGE)
    store = open_store()
    assert any("is damaged" in line for line in errors(caplog))
    counts = store.counts()
    assert ANSWERED - 10 <= counts.answered <= ANSWERED
    assert answers_without_event(store) == 0
    for number in range(ANSWERED):
        assert claim(store, str(number)).outcome in {ClaimOutcome.KNOWN, ClaimOutcome.NEW}


@pytest.mark.fault("F10")
def test_any_page_may_be_damaged(open_store, claim, database, state_dir, answer_json):
    """Each page in turn: the store opens, each answer has its event, and most rows come through."""
    sound = database.read_bytes()
    through = []
    pages = len(sound) // PAGE
    for page in range(0, pages, max(1, pages // 25)):
        database.write_bytes(sound)
        change(database, page * PAGE + 8 if page else 100, b"\xff" * (PAGE - 200))
        store = open_store()
        counts = store.counts()
        assert answers_without_event(store) == 0
        through.append(counts.answered)
        store.close()
        assert opening.find_damage(database, "device-1") is None
    assert sum(count >= ANSWERED - 8 for count in through) >= 0.6 * len(through), through


@pytest.mark.fault("F10")
def test_another_application_id(open_store, database, caplog):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA application_id = 7")
    store = open_store()
    assert any("application_id is 7" in line for line in errors(caplog))
    assert store.counts().answered == ANSWERED


@pytest.mark.fault("F10")
def test_a_foreign_empty_database_is_not_taken_for_ours(open_store, state_dir, caplog):
    state_dir.mkdir()
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as connection:
        connection.execute("CREATE TABLE scans (x)")
    assert open_store().counts().received == 0
    assert any("application_id is 0" in line for line in errors(caplog))
    assert "1/dermascan.db" in quarantined(state_dir)


@pytest.mark.fault("F10")
def test_another_devices_database_is_refused_and_left_alone(open_store, database, state_dir):
    with pytest.raises(StoreError, match=r"belongs to device 'device-1'.*set the id back"):
        open_store("device-2")
    assert quarantined(state_dir) == []
    assert open_store().counts().answered == ANSWERED


@pytest.mark.fault("F29")
def test_a_newer_schema_is_refused_and_left_alone(open_store, database, state_dir):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="newer software"):
        open_store()
    assert quarantined(state_dir) == []


@pytest.mark.fault("F10")
def test_a_missing_database_beside_results_is_an_alarm(open_store, database, state_dir, caplog):
    (state_dir / "results" / "x.json").write_text("{}")
    database.unlink()
    open_store()
    assert any("it is gone, and the results of its scans are not" in line for line in errors(caplog))
    assert quarantined(state_dir) == ["1/REASON", "1/SALVAGED"]


@pytest.mark.fault("F10")
def test_a_salvage_that_was_interrupted_goes_on(open_store, database, state_dir, monkeypatch):
    change(database, 0, b"\xa5" * 50)

    def power_cut(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(opening, "salvage", power_cut)
        with pytest.raises(StoreError, match="power cut"):
            open_store()
    assert not database.exists()
    assert open_store().counts().answered == ANSWERED
    assert "1/SALVAGED" in quarantined(state_dir)


def test_a_second_damage_gets_its_own_folder(open_store, database, state_dir):
    for number in (1, 2):
        change(database, 0, b"\xa5" * 50)
        store = open_store()
        assert store.counts().answered == ANSWERED
        store.close()
        assert f"{number}/SALVAGED" in quarantined(state_dir)


def test_a_sound_database_is_left_where_it_is(open_store, database, state_dir, caplog):
    assert open_store().counts().answered == ANSWERED
    assert errors(caplog) == []
    assert not (state_dir / "quarantine").exists()


@pytest.mark.fault("F10")
def test_an_event_whose_scan_is_lost_is_kept_and_is_the_same_when_the_scan_comes_again(
    open_store, claim, answer_json, database
):
    with closing(sqlite3.connect(database)) as connection:
        (scan_id,) = connection.execute("SELECT scan_id FROM scans WHERE seq = 7").fetchone()
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE scans SET attempts = 0 WHERE seq = 7")
        connection.commit()
    store = open_store()
    counts = store.counts()
    assert (counts.answered, counts.waiting) == (ANSWERED - 1, ANSWERED)
    assert claim(store, "6").scan_id == scan_id
    store.answer(scan_id, answer_json(scan_id), "cpu").result(10)
    assert store.counts().waiting == ANSWERED, "one event, not two"
    assert answers_without_event(store) == 0


@pytest.mark.fault("F10")
def test_rows_that_break_their_tables_rules_are_damage(open_store, database, caplog):
    """SQLite does not read the rules of a file that it opens read-only: the check must not open it so."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE scans SET state = 'rubbish' WHERE seq = 3")
        connection.commit()
    assert open_store().counts().answered == ANSWERED - 1
    assert any("CHECK constraint failed" in line for line in errors(caplog))


@pytest.mark.fault("F29")
def test_a_damaged_database_of_an_older_version_loses_no_row(open_store, database):
    with closing(sqlite3.connect(database)) as connection:
        for name in ("scans_by_key", "scans_by_patient", "scans_by_end"):
            connection.execute(f"DROP INDEX {name}")
        for name in ("kept", "sealed_by", "patient_index"):
            connection.execute(f"ALTER TABLE scans DROP COLUMN {name}")
        connection.execute("DROP TABLE keeping")
        connection.execute("PRAGMA user_version = 5")
    change(database, 0, b"\xa5" * 16)
    assert open_store().counts().answered == ANSWERED


@pytest.fixture
def sixth_version(database) -> tuple[Path, dict[str, bytes]]:
    """The same as version 6 left it, with events within the outbox; and what they are."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        events = dict(db.execute("SELECT event_id, event FROM outbox JOIN outbox_events USING (seq)"))
        statements = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'outbox'") if sql]
        (table,) = [sql for sql in statements if sql.startswith("CREATE TABLE")]
        table = table.replace("topic TEXT NOT NULL,", "topic TEXT NOT NULL, event BLOB NOT NULL,")
        db.execute(table.replace('"outbox"', "old", 1).replace("outbox", "old", 1))
        names = "seq, event_id, scan_id, type, topic, event, state, attempts, reason, created_at"
        db.execute(f"INSERT INTO old SELECT {names} FROM outbox JOIN outbox_events USING (seq)")  # noqa: S608
        db.execute("DROP TABLE outbox_events")
        db.execute("DROP TABLE outbox")
        db.execute("ALTER TABLE old RENAME TO outbox")
        for statement in statements:
            if not statement.startswith("CREATE TABLE"):
                db.execute(statement)
        db.execute("UPDATE outbox SET state = 'acknowledged' WHERE seq % 2")
        db.execute("UPDATE outbox SET event = x'' WHERE seq = 1")
        db.execute("PRAGMA user_version = 6")
        db.execute("VACUUM")
    return database, events


@pytest.mark.fault("F10")
@pytest.mark.fault("F29")
@pytest.mark.parametrize("damage", ["header", "schema"])
def test_events_of_an_older_version_are_salvaged_to_the_byte(open_store, sixth_version, damage):
    """By its trees, and page by page where the way to them is lost; with what had arrived."""
    database, events = sixth_version
    change(database, 0, b"\xa5" * (16 if damage == "header" else PAGE))
    store = open_store()
    there = store.look(
        lambda db: db.execute("SELECT seq, event_id, state, event FROM outbox LEFT JOIN outbox_events USING (seq)")
    ).fetchall()
    assert len(there) == len(events) == ANSWERED
    for seq, event_id, state, event in there:
        assert state == ("acknowledged" if seq % 2 else "waiting")
        assert event == (events[event_id] if seq != 1 else None)


@pytest.mark.fault("F10")
def test_an_event_whose_row_is_lost_gets_it_back_under_its_number(open_store, claim, database):
    store = open_store()
    alert = store.post(ALERT, "scope-1", {"kind": "colour_drift", "sentence": "x"}).result(10)
    (before,) = [row for row in store.outbox_due(100, fresh_after_seq=0) if row.event_id == alert]
    store.close()
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("DELETE FROM outbox WHERE seq IN (3, ?)", (before.seq,))
    change(database, 0, b"\xa5" * 16)
    store = open_store()
    rows = {row.event_id: row for row in store.outbox_due(100, fresh_after_seq=0)}
    assert (rows[alert].seq, rows[alert].event, rows[alert].topic) == (before.seq, before.event, before.topic)
    assert len(rows) == ANSWERED + 1
    scan_of_third = store.look(lambda db: db.execute("SELECT scan_id FROM outbox WHERE seq = 3").fetchone())
    assert scan_of_third != (None,), "its scan is known"


@pytest.mark.fault("F10")
@pytest.mark.fault("F21")
def test_a_row_whose_event_is_lost_gets_it_again_or_says_so(open_store, database):
    store = open_store()
    alert = store.post(ALERT, "scope-1", {"kind": "colour_drift", "sentence": "x"}).result(10)
    before = {row.event_id: row for row in store.outbox_due(100, fresh_after_seq=0)}
    store.close()
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("DELETE FROM outbox_events WHERE seq IN (3, ?)", (before[alert].seq,))
        db.execute("VACUUM")  # else the pages would still hold them
    change(database, 0, b"\xa5" * 16)
    store = open_store()
    after = {row.event_id: row for row in store.outbox_due(100, fresh_after_seq=0)}
    assert after == {event_id: row for event_id, row in before.items() if event_id != alert}
    dead = "SELECT event_id, reason FROM outbox WHERE state = 'dead'"
    ((event_id, reason),) = store.look(lambda db: db.execute(dead).fetchall())
    assert event_id == alert
    assert "lost with a damaged database" in reason
    assert store.outbox_retry(alert).result(10) == 0, "there is nothing to send"
