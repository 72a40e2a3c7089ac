from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from agent.records import ground_truth, listing, outbox, queries, readers, verdicts
from agent.records.errors import StoreClosed, StoreError
from agent.records.queries import counts
from agent.records.readers import READERS


def descriptors_of(path: Path) -> int:
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            count += descriptor.readlink() == path
    return count


def test_what_was_committed_is_read_and_nothing_can_be_changed(open_store, claim):
    store = open_store()
    with store.reading() as db:
        assert counts(db).received == 0
    claim(store, "a")
    with store.reading() as db:
        assert counts(db).received == 1
    with pytest.raises(StoreError, match="readonly"), store.reading() as db:
        db.execute("DELETE FROM scans")
    with store.reading() as db:
        assert counts(db).received == 1


@pytest.mark.fault("F08")
def test_a_reader_who_broke_off_in_the_middle_keeps_no_snapshot(open_store, claim, state_dir):
    store = open_store()
    for name in "abc":
        claim(store, name)

    def break_off() -> None:
        with store.reading() as db:
            rows = db.execute("SELECT * FROM scans")
            rows.fetchone()
            raise ValueError("in the middle")

    with contextlib.suppress(ValueError):
        break_off()
    claim(store, "d")
    with contextlib.closing(sqlite3.connect(state_dir / "dermascan.db", isolation_level=None)) as other:
        busy, log, done = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, log, done) == (0, 0, 0)


@pytest.mark.fault("F08")
def test_what_the_web_reads_leaves_no_snapshot_behind(open_store, claim, answer_json, state_dir):
    store = open_store()
    scan_id = claim(store, "a").scan_id
    store.answer(scan_id, answer_json(scan_id), "cpu").result(10)
    store.verdict(scan_id, "melanoma", "clinician", "Kim", "").result(10)
    for name in "bcd":
        claim(store, name)
    with store.reading() as db:
        assert len(listing.newest(db, 2)) == 2
        assert listing.one(db, scan_id)
        assert listing.by_identity(db, "sha256:none") is None
        assert queries.result_json(db, scan_id)
        assert len(verdicts.of_scan(db, scan_id)) == len(verdicts.after(db, 0, 1)) == 1
        assert not ground_truth.of_scan(db, scan_id)
        assert listing.cloud_state(db, scan_id)
        assert (outbox.stats(db).waiting, queries.counts(db).received) == (2, 3)
    claim(store, "e")
    with contextlib.closing(sqlite3.connect(state_dir / "dermascan.db", isolation_level=None)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def test_however_many_read_there_are_never_more_descriptors_than_after_the_first_look(open_store, claim, state_dir):
    store = open_store()
    claim(store, "a")
    with store.reading():
        pass
    first = descriptors_of(state_dir / "dermascan.db")
    assert first == 1 + READERS
    together, seen = threading.Barrier(READERS), []

    def all_at_once() -> None:
        with store.reading() as db:
            together.wait(10)
            seen.append(counts(db).received)

    def again_and_again() -> None:
        for _ in range(50):
            with store.reading() as db:
                seen.append(counts(db).received)

    for work, times in ((all_at_once, READERS), (again_and_again, 2 * READERS)):
        threads = [threading.Thread(target=work) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [1] * (READERS + 50 * 2 * READERS)
    assert descriptors_of(state_dir / "dermascan.db") == first


def test_who_waits_too_long_for_a_connection_is_told(open_store, monkeypatch):
    monkeypatch.setattr(readers, "PATIENCE_S", 0.05)
    store = open_store()
    lent = [store.reading() for _ in range(READERS)]
    for one in lent:
        one.__enter__()
    with pytest.raises(StoreError, match="by others"), store.reading():
        pass
    for one in lent:
        one.__exit__(None, None, None)
    with store.reading() as db:
        assert counts(db).received == 0


def test_closing_waits_for_who_reads_and_takes_the_log_away(open_store, claim, state_dir):
    store = open_store()
    claim(store, "a")
    inside, go_on = threading.Event(), threading.Event()
    rows = []

    def read() -> None:
        with store.reading() as db:
            inside.set()
            go_on.wait(10)
            rows.append(counts(db).received)

    reader = threading.Thread(target=read)
    reader.start()
    inside.wait(10)
    closing = threading.Thread(target=store.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    closing.join(10)
    reader.join(10)
    assert rows == [1]
    assert descriptors_of(state_dir / "dermascan.db") == 0
    assert not (state_dir / "dermascan.db-wal").exists()
    with pytest.raises(StoreClosed), store.reading():
        pass
