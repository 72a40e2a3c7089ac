from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.intake.capture import FileStamp
from agent.intake.reasons import Reason
from agent.messages.catalogue import RESULT
from agent.records.results import write_results
from agent.records.store import AlreadyTerminal, ClaimOutcome, StoreClosed, StoreError, StoreFull, UnknownScan


def rows(state_dir: Path, sql: str) -> list[tuple]:
    connection = sqlite3.connect(state_dir / "dermascan.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_a_claim_is_new_then_resumed_then_known(open_store, claim, answer_json):
    store = open_store()
    first = claim(store)
    assert (first.outcome, first.attempts) == (ClaimOutcome.NEW, 1)
    again = claim(store)
    assert (again.scan_id, again.outcome, again.attempts) == (first.scan_id, ClaimOutcome.RESUMED, 2)
    store.answer(first.scan_id, answer_json(first.scan_id), "cpu").result(10)
    known = claim(store, path="/scope/copy.jpg")
    assert (known.scan_id, known.outcome, known.attempts) == (first.scan_id, ClaimOutcome.KNOWN, 2)


@pytest.mark.fault("F04")
def test_the_same_content_under_two_names_is_one_scan(open_store, claim, state_dir):
    store = open_store()
    assert claim(store, "a", "/scope/1.jpg").scan_id == claim(store, "a", "/scope/2.jpg").scan_id
    assert claim(store, "b", "/scope/1.jpg").scan_id != claim(store, "a", "/scope/2.jpg").scan_id
    assert rows(state_dir, "SELECT count(*), count(DISTINCT identity) FROM scans") == [(2, 2)]
    with pytest.raises(sqlite3.IntegrityError, match=r"scans\.identity"):
        store._writer.submit(
            lambda db: db.execute(
                "INSERT INTO scans SELECT NULL, 'other', identity, NULL, path, path_bytes, dermoscope_id, state, NULL,"
                " NULL, NULL, 1, '{}', NULL, received_at, NULL, boot_id, 0, 0, 0,"
                " 'whole', NULL, NULL FROM scans LIMIT 1"
            )
        ).result(10)


def test_a_scan_ends_once(open_store, claim, answer_json, state_dir):
    store = open_store()
    scan_id = claim(store).scan_id
    store.answer(scan_id, answer_json(scan_id), "cpu", {"patient_id": "P1"}).result(10)
    with pytest.raises(AlreadyTerminal, match="answered already"):
        store.answer(scan_id, answer_json(scan_id), "other").result(10)
    with pytest.raises(AlreadyTerminal):
        store.reject(scan_id, Reason.BLANK, "Too late.").result(10)
    with pytest.raises(UnknownScan):
        store.reject("nobody", Reason.BLANK, "Who?").result(10)
    assert rows(state_dir, "SELECT state, backend, reason, metadata FROM scans") == [
        ("answered", "cpu", None, '{"patient_id": "P1"}')
    ]
    assert rows(state_dir, "SELECT scan_id, state FROM outbox") == [(scan_id, "waiting")]


def test_an_event_that_cannot_be_written_takes_the_answer_back(open_store, claim, answer_json):
    """Answer and event are one transaction: none without the other."""
    store = open_store()
    scan_id = claim(store).scan_id
    store._writer.submit(
        lambda db: db.execute(
            "INSERT INTO outbox (event_id, scan_id, type, topic, created_at) VALUES ('x', ?, ?, 't', 't')",
            (scan_id, RESULT.type),
        )
    ).result(10)
    with pytest.raises(sqlite3.IntegrityError):
        store.answer(scan_id, answer_json(scan_id), "cpu").result(10)
    assert store.counts().received == 1
    assert store.result_json(scan_id) is None


def test_one_bad_operation_fails_alone(open_store, claim, answer_json):
    store = open_store()
    ids = [claim(store, str(number)).scan_id for number in range(3)]
    before = store.commits
    gate = threading.Event()
    held = store._writer.submit(lambda db: gate.wait(10), writes=False)
    promises = [
        store.answer(ids[0], answer_json(ids[0]), "cpu"),
        store.answer(ids[1], "no JSON", "cpu"),
        store.reject("nobody", Reason.EMPTY, "?"),
        store.answer(ids[2], answer_json(ids[2]), "cpu"),
    ]
    gate.set()
    assert held.result(10)
    assert promises[0].result(10) is None
    assert promises[3].result(10) is None
    with pytest.raises(json.JSONDecodeError):
        promises[1].result(10)
    with pytest.raises(UnknownScan):
        promises[2].result(10)
    assert store.commits == before + 1, "what was queued together was not committed together"
    assert store.counts().answered == 2


def test_odd_file_names_and_huge_inodes_come_back_as_they_were(open_store, claim, state_dir):
    store = open_store()
    path = Path(os.fsdecode(b"/scope/caf\xe9 \xff.jpg"))
    stamp = FileStamp(2**64 - 1, 2**63 + 5, 3, -1, 5)
    scan_id = store.claim("sha256:1", "1", path, "scope-1", stamp).result(10).scan_id
    assert [row.path for row in store.unfinished()] == [path]
    assert store.known("scope-1") == {}, "a scan that is not finished must come again"
    store.reject(scan_id, Reason.BLANK, "Blank.").result(10)
    assert store.known("scope-1") == {os.fsencode(path): stamp}
    assert store.known("scope-2") == {}
    assert rows(state_dir, "SELECT path FROM scans") == [("/scope/caf\\xe9 \\xff.jpg",)]


def test_what_was_left_unfinished_is_found_after_a_restart(open_store, claim, answer_json):
    store = open_store()
    done, left = claim(store, "done"), claim(store, "left")
    store.answer(done.scan_id, answer_json(done.scan_id), "cpu").result(10)
    store.close()
    store = open_store()
    assert [(row.scan_id, row.attempts) for row in store.unfinished()] == [(left.scan_id, 1)]
    assert [row.scan_id for row in store.without_files()] == [done.scan_id]
    store.files_written(done.scan_id).result(10)
    assert list(store.without_files()) == []
    with pytest.raises(UnknownScan):
        store.files_written(left.scan_id).result(10)


def test_a_late_sidecar_reaches_the_kept_answer_and_not_the_event(open_store, claim, answer_json, state_dir):
    store = open_store()
    scan_id = claim(store, path="/scope/x.1.jpg").scan_id
    stranger = claim(store, "b", path="/scope/x.1.2.jpg").scan_id
    for each in (scan_id, stranger):
        store.answer(each, answer_json(each).replace('"CANARY-PATIENT"', "null"), "cpu").result(10)
        store.files_written(each).result(10)
    assert store.scans_at(Path("/scope/x.1")) == [(scan_id, Path("/scope/x.1.jpg"), True, True)]
    assert store.add_metadata(scan_id, {"patient_id": "LATE", "age": 50}).result(10) is True
    assert store.add_metadata(scan_id, {"patient_id": "LATE"}).result(10) is False
    assert json.loads(store.result_bytes(scan_id))["patient_id"] == "LATE"
    assert [row.scan_id for row in store.without_files()] == [scan_id], "its file holds the older answer"
    assert store.scans_at(Path("/scope/x.1")) == [(scan_id, Path("/scope/x.1.jpg"), True, False)]
    assert b"LATE" not in b"".join(
        event for (event,) in rows(state_dir, "SELECT event FROM outbox JOIN outbox_events USING (seq)")
    )


@pytest.mark.fault("F06")
def test_a_full_quota_fails_cleanly_and_keeps_what_was_there(open_store, claim, answer_json, caplog):
    store = open_store(quota_mb=1)
    done = []

    def answer_many() -> None:
        for number in range(200):
            scan_id = claim(store, str(number)).scan_id
            store.answer(scan_id, answer_json(scan_id, attention_bytes=20_000), "cpu").result(10)
            done.append(scan_id)

    with pytest.raises(StoreFull, match="quota_mb"):
        answer_many()
    assert done
    assert store.counts().answered == len(done), "reading must go on while full"
    with pytest.raises(StoreFull):
        [claim(store, str(number)) for number in range(200, 1200)]
    assert sum("is full" in record.message for record in caplog.records) == 1
    store.close()
    store = open_store(quota_mb=64)
    assert store.counts().answered == store.counts().waiting == len(done)
    claim(store, "there is room again")


def test_only_one_agent_per_state_dir(open_store, state_dir):
    open_store()
    code = (
        "import sys; from pathlib import Path; from agent.records.store import Store\n"
        "Store.open(Path(sys.argv[1]), 'device-1', 64, clinic_id='c', software_version='0')"
    )
    other = subprocess.run([sys.executable, "-c", code, str(state_dir)], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"another agent (pid {os.getpid()}) is running on {state_dir}" in other.stderr


def test_close_lets_the_next_in_and_refuses_more(open_store, claim):
    store = open_store()
    claim(store)
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.counts()
    assert open_store().counts().received == 1


def test_settings_of_the_connection(open_store):
    store = open_store(quota_mb=100)

    def pragmas(db: sqlite3.Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint", "max_page_count", "page_size")
        return {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    found = store._writer.submit(pragmas, writes=False).result(10)
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
        "max_page_count": 100 * 1024 * 1024 // 4096,
        "page_size": 4096,
    }


def test_a_state_dir_that_cannot_be_made_is_told(tmp_path):
    from agent.records.store import Store

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        Store.open(tmp_path / "file" / "state", "d", 64, clinic_id="c", software_version="0")


def test_leftovers_of_a_crash_are_removed_at_start(open_store, state_dir):
    open_store().close()
    (state_dir / "results" / ".x.png.part").write_bytes(b"half")
    (state_dir / "dermascan.db.new").write_bytes(b"half")
    write_results(state_dir / "results", "x", b"{}", None)
    open_store()
    assert [file.name for file in (state_dir / "results").iterdir()] == ["x.json"]
    assert not (state_dir / "dermascan.db.new").exists()


@pytest.mark.fault("F11")
def test_a_promise_is_kept_only_after_the_commit(open_store, claim, answer_json, state_dir):
    store = open_store()
    scan_id = claim(store).scan_id
    committed = []
    promise = store.answer(scan_id, answer_json(scan_id), "cpu")
    promise.add_done_callback(lambda _: committed.append(rows(state_dir, "SELECT state FROM scans")))
    promise.result(10)
    store.close()
    assert committed == [[("answered",)]]
