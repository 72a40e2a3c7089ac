"""Another process at the database: it holds the write lock (F07), or it reads and does not end (F08)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

import pytest

from agent.intake.reasons import Reason
from agent.records import checkpoint, opening
from agent.records.store import StoreClosed


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.005)


@pytest.fixture
def outsider(state_dir):
    """A connection that is not the store's; open the store first."""
    opened = []

    def connect() -> sqlite3.Connection:
        opened.append(sqlite3.connect(state_dir / "dermascan.db", isolation_level=None))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.mark.fault("F07")
def test_a_lock_from_outside_delays_and_kills_nothing(open_store, claim, outsider, monkeypatch, caplog):
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 10)
    store = open_store()
    scan_id = claim(store).scan_id
    other = outsider()
    other.execute("BEGIN IMMEDIATE")
    promise = store.reject(scan_id, Reason.BLANK, "Blank.")
    wait_for(lambda: store.busy_retries >= 3, "the third try")
    assert not promise.done()
    other.execute("ROLLBACK")
    assert promise.result(10) is None
    assert store.counts().rejected == 1
    assert sum("locked by another process" in record.message for record in caplog.records) == 1
    claim(store, "the thread lives on")


@pytest.mark.fault("F07")
def test_closing_does_not_wait_for_ever_for_a_lock(open_store, claim, outsider, monkeypatch):
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 10)
    store = open_store()
    scan_id = claim(store).scan_id
    outsider().execute("BEGIN IMMEDIATE")
    promise = store.reject(scan_id, Reason.BLANK, "Blank.")
    store.close(timeout_s=0.1)
    with pytest.raises(StoreClosed, match="locked"):
        promise.result(0)


@pytest.mark.fault("F08")
def test_a_pinned_reader_is_counted_and_told_and_the_log_shrinks_after_it(  # noqa: PLR0917 - fixtures
    open_store, claim, answer_json, outsider, monkeypatch, caplog
):
    monkeypatch.setattr(checkpoint, "BLOCKED_PAUSE_S", (0.02, 0.05))
    monkeypatch.setattr(checkpoint, "IDLE_S", 0.02)
    monkeypatch.setattr(checkpoint, "WAL_LIMIT_BYTES", 200_000)
    monkeypatch.setattr(checkpoint, "WAL_ALARM_BYTES", 1_000_000)
    monkeypatch.setattr(checkpoint, "TRUNCATE_WAIT_MS", 5)
    store = open_store()
    claim(store)
    reader = outsider()
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM scans").fetchone()
    for number in range(30):
        scan_id = claim(store, f"more {number}").scan_id
        store.answer(scan_id, answer_json(scan_id, attention_bytes=20_000), "cpu").result(10)
    assert store.wal_bytes > 1_000_000, "the reader pins the log"
    wait_for(lambda: store.blocked_checkpoints >= 3, "blocked checkpoints")
    assert sum("checkpoint blocked" in record.message for record in caplog.records) == 1
    assert reader.execute("SELECT count(*) FROM scans").fetchone() == (1,)
    reader.execute("COMMIT")
    wait_for(lambda: store.wal_bytes == 0, "the log cut after the reader left")
    assert store.counts().answered == 30


@pytest.mark.fault("F08")
def test_the_log_stays_small_without_a_reader(open_store, claim, answer_json, monkeypatch):
    monkeypatch.setattr(checkpoint, "WAL_LIMIT_BYTES", 200_000)
    store = open_store()
    for number in range(40):
        scan_id = claim(store, str(number)).scan_id
        store.answer(scan_id, answer_json(scan_id, attention_bytes=20_000), "cpu").result(10)
        assert store.wal_bytes < 1_000_000
    assert store.blocked_checkpoints == 0


def test_a_quiet_store_checkpoints_once_and_then_sleeps(open_store, claim, monkeypatch):
    monkeypatch.setattr(checkpoint, "IDLE_S", 0.02)
    store = open_store()
    claim(store)
    wait_for(lambda: store._checkpointer.due_in_s() is None, "the checkpoint when idle")
    assert store._checkpointer.done >= 1
