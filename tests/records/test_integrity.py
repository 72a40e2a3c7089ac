"""The look through the tables of a running agent's database, a table at a time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.records import readers
from agent.records.keeping.integrity import AGAIN_S, BETWEEN_S, Integrity
from agent.records.readers import READERS
from tests.records.test_readers import descriptors_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(open_store, claim, answer_json):
    store = open_store()
    for name in "abcdefghij":
        scan_id = claim(store, name).scan_id
        store.answer(scan_id, answer_json(scan_id, attention_bytes=20_000), "cpu").result(10)
    return store


def one_round(integrity: Integrity, clock: Clock, most: int = 100) -> int:
    """Look until all tables were looked through; returns how many looks that took."""
    before, looks = integrity.rounds, 0
    while integrity.rounds == before:
        clock.now += BETWEEN_S
        integrity.look()
        looks += 1
        assert looks < most
    return looks


def tables(path: Path) -> int:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchone()[0]


@pytest.mark.fault("F10")
def test_a_sound_database_is_looked_through_a_table_at_a_time_and_again_a_day_later(store, state_dir, clock, caplog):
    integrity = Integrity(store, clock)
    integrity.look()
    assert integrity.rounds == 0, "not at once: the start has just read it"
    assert one_round(integrity, clock) == tables(state_dir / "dermascan.db")
    clock.now += AGAIN_S - 1
    integrity.look()
    assert one_round(integrity, clock) == tables(state_dir / "dermascan.db")
    assert integrity.damage is None
    assert not caplog.records


@pytest.mark.fault("F10")
def test_a_page_that_was_damaged_under_the_running_agent_is_found_though_it_was_read_before(
    store, state_dir, clock, caplog
):
    database = state_dir / "dermascan.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        (page_size,) = db.execute("PRAGMA page_size").fetchone()
        pages = [row[0] for row in db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'scans'")]
    lent = [store.reading() for _ in range(READERS)]
    for one in lent:
        one.__enter__().execute("SELECT count(*), sum(length(result)) FROM scans").fetchone()
    for one in lent:
        one.__exit__(None, None, None)
    with database.open("r+b") as file:
        file.seek((pages[0] - 1) * page_size)
        file.write(b"\xa5" * page_size)
    integrity = Integrity(store, clock)
    one_round(integrity, clock)
    assert integrity.damage is not None
    assert "restart the agent" in integrity.damage
    assert integrity.damage in caplog.text


@pytest.mark.fault("F10")
def test_a_text_that_is_not_what_was_written_is_found(store, state_dir, clock):
    with closing(sqlite3.connect(state_dir / "dermascan.db", isolation_level=None)) as db:
        db.execute("UPDATE scans SET result = replace(result, '{', '\x01') WHERE seq = 3")
    integrity = Integrity(store, clock)
    one_round(integrity, clock)
    assert integrity.damage is not None
    assert "is not what was written" in integrity.damage


def test_who_could_not_look_has_found_nothing_and_looks_at_the_same_table_again(store, state_dir, clock, monkeypatch):
    monkeypatch.setattr(readers, "PATIENCE_S", 0.01)
    integrity = Integrity(store, clock)
    lent = [store.reading() for _ in range(READERS)]
    for one in lent:
        one.__enter__()
    for _ in range(3):
        clock.now += BETWEEN_S
        integrity.look()
    for one in lent:
        one.__exit__(None, None, None)
    assert (integrity.damage, integrity.rounds) == (None, 0)
    assert one_round(integrity, clock) == tables(state_dir / "dermascan.db")
    store.close()
    clock.now += AGAIN_S
    integrity.look()
    assert integrity.damage is None


def test_looking_takes_no_descriptors_of_its_own(store, state_dir, clock):
    with store.reading():
        pass
    before = descriptors_of(state_dir / "dermascan.db")
    one_round(Integrity(store, clock), clock)
    assert descriptors_of(state_dir / "dermascan.db") == before == 1 + READERS
