"""A copy is one moment of the database, sound and whole, whatever goes on beside it; and it can be taken into use."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agent.records.audit import AuditAction
from agent.records.audit_reading import verify
from agent.records.errors import StoreError
from agent.records.keeping import backup as backups
from agent.records.keeping import erasing
from agent.records.keeping.backup import BackupError, backup, described, listed
from agent.records.keeping.restore import restore
from agent.records.reading import list_scans
from agent.records.replacing import READY, REPLACED, take_into_use
from agent.records.sealing import PLAIN
from agent.records.store import ClaimOutcome


@pytest.fixture
def filled(open_store, claim, answer_json, state_dir):
    """An open store with 30 answered scans, a verdict on each fifth."""
    store = open_store()
    for number in range(30):
        scan_id = claim(store, str(number)).scan_id
        store.answer(scan_id, answer_json(scan_id), "cpu", {"patient_id": f"P-{number}"}).result(10)
        if number % 5 == 0:
            store.verdict(scan_id, "melanoma", "clinician", "Kim").result(10)
    return store


def rows(path: Path, table: str) -> list[tuple]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        return db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608


@pytest.mark.requirement("R-REC-6")
def test_a_copy_holds_every_row_and_says_what_it_is(filled, state_dir, tmp_path):
    path, made, gone = backup(state_dir, tmp_path / "copies")
    assert (path.name, gone) == ("dermascan-000001.db", [])
    assert made.rows == {"scans": 30, "outbox": 36, "verdicts": 6, "ground_truth": 0, "audit": 6}
    assert made.audit_head == filled.audit_head()[1]
    assert described(path) == made
    assert path.stat().st_mode & 0o777 == 0o640
    filled.close()
    for table in ("scans", "outbox", "verdicts", "audit"):
        assert rows(path, table) == rows(state_dir / "dermascan.db", table)
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", path.name, "dermascan-000001.json"]


@pytest.mark.fault("F09")
@pytest.mark.requirement("R-REC-6")
def test_copying_never_checkpoints_and_changes_no_byte_of_the_database(filled, state_dir, tmp_path):
    filled.seal_some(1).result(10)  # whatever was queued is done
    before = {
        file.name: file.read_bytes() for file in state_dir.glob("dermascan.db*") if not file.name.endswith("-shm")
    }
    assert len(before["dermascan.db-wal"]) > 100_000, "there must be a log that could be checkpointed"
    backup(state_dir, tmp_path / "copies")
    assert {name: (state_dir / name).read_bytes() for name in before} == before


@pytest.mark.fault("F09")
@pytest.mark.requirement("R-REC-6")
def test_a_copy_made_while_the_agent_writes_is_one_moment(filled, state_dir, tmp_path, claim, answer_json):
    """Each scan is written with its event in one transaction: no copy may have one without the other."""
    stop, written = threading.Event(), []

    def write() -> None:
        number = 100
        while not stop.is_set():
            scan_id = claim(filled, str(number)).scan_id
            filled.answer(scan_id, answer_json(scan_id, attention_bytes=20_000), "cpu").result(10)
            written.append(scan_id)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            so_far = len(written)
            path, made, _ = backup(state_dir, tmp_path / "copies")
            answered = {row[0] for row in rows(path, "scans WHERE state = 'answered'")}
            assert len(answered) >= 30 + so_far, "what was committed before the copy began is in it"
            assert len(rows(path, "outbox")) - made.rows["verdicts"] == len(answered)
    finally:
        stop.set()
        writer.join()
    assert len(written) > 5


def test_only_the_newest_are_kept(filled, state_dir, tmp_path):
    for _ in range(4):
        _, _, gone = backup(state_dir, tmp_path / "copies", keep=2)
    assert [path.name for path in gone] == ["dermascan-000002.db"]
    assert [path.name for path in listed(tmp_path / "copies")] == ["dermascan-000003.db", "dermascan-000004.db"]
    assert len(list((tmp_path / "copies").glob("*.json"))) == 2


def test_a_copy_that_is_not_what_was_read_is_not_kept(filled, state_dir, tmp_path, monkeypatch):
    copies = tmp_path / "copies"
    backup(state_dir, copies)

    def bad_disk(state, working, progress):
        told = backups_copy(state, working, progress)
        with working.open("r+b") as file:
            file.seek(working.stat().st_size // 2)
            file.write(os.urandom(4096))
        return told

    backups_copy = backups._copy
    monkeypatch.setattr(backups, "_copy", bad_disk)
    with pytest.raises(BackupError, match="the copy is damaged"):
        backup(state_dir, copies, keep=1)
    assert sorted(path.name for path in copies.iterdir()) == [".lock", "dermascan-000001.db", "dermascan-000001.json"]


def test_without_room_there_is_no_copy_and_a_remedy(filled, state_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(backups, "DISK_RESERVE_BYTES", 1 << 60)
    with pytest.raises(BackupError, match="name a folder on another one with --to"):
        backup(state_dir, tmp_path / "copies")
    assert listed(tmp_path / "copies") == []


def test_two_backups_at_once_are_one(filled, state_dir, tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    with backups._only_one(folder), pytest.raises(BackupError, match="another backup is being made"):
        backup(state_dir, folder)


@pytest.mark.requirement("R-REC-6")
def test_a_restored_copy_is_in_use_and_the_other_is_aside(  # noqa: PLR0917
    filled, state_dir, tmp_path, open_store, claim, answer_json
):
    path, _, _ = backup(state_dir, tmp_path / "copies")
    late = claim(filled, "late").scan_id
    filled.answer(late, answer_json(late), "cpu").result(10)
    events = {row.event_id for row in filled.outbox_due(100, fresh_after_seq=0)}
    filled.outbox_acknowledge(events).result(10)
    filled.close()

    done = restore(path, state_dir, "device-1", "Kim", PLAIN)
    assert (done.rows["scans"], done.sent_again, done.erased_again) == (30, 36, 0)
    assert done.moved_to is not None
    assert late in {row[1] for row in rows(Path(done.moved_to) / "dermascan.db", "scans")}, "moved aside, whole"
    store = open_store()
    assert store.counts().answered == 30
    again = claim(store, "late")
    assert (again.outcome, again.scan_id) == (ClaimOutcome.NEW, late), "the capture becomes the same scan"
    store.answer(late, answer_json(late), "cpu").result(10)
    assert {row.event_id for row in store.outbox_due(100, fresh_after_seq=0)} == events, "and the same events (F19)"
    assert verify(state_dir).whole
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        assert db.execute("SELECT action, who FROM audit ORDER BY seq DESC LIMIT 1").fetchone() == ("restore", "Kim")


@pytest.mark.requirement("R-REC-6")
def test_result_files_that_are_gone_are_written_again(filled, state_dir, tmp_path, open_store):
    from agent.records.results import write_results

    for row in list(filled.without_files()):
        write_results(filled.results_folder, row.scan_id, filled.result_bytes(row.scan_id), b"png")
        filled.files_written(row.scan_id).result(10)
    path, _, _ = backup(state_dir, tmp_path / "copies")
    filled.close()
    kept, lost = [row.scan_id for row in list_scans(state_dir)][:2]
    (state_dir / "results" / f"{lost}.json").unlink()
    restore(path, state_dir, "device-1", "Kim", PLAIN)
    assert [row.scan_id for row in open_store().without_files()] == [lost]
    assert kept != lost


def test_nothing_is_restored_under_a_running_agent(filled, state_dir, tmp_path):
    path, _, _ = backup(state_dir, tmp_path / "copies")
    with pytest.raises(StoreError, match=r"another agent .* is running"):
        restore(path, state_dir, "device-1", "Kim", PLAIN)


@pytest.mark.parametrize("what", ["page", "sidecar", "another device", "newer", "log", "nothing", "empty"])
@pytest.mark.requirement("R-REC-6")
def test_what_cannot_be_used_changes_nothing(what, filled, state_dir, tmp_path):
    path, _, _ = backup(state_dir, tmp_path / "copies")
    filled.close()
    before = (state_dir / "dermascan.db").read_bytes()
    device_id = "device-1"
    if what == "page":
        with path.open("r+b") as file:
            file.seek(5 * 4096)
            file.write(b"\xff" * 4096)
    elif what == "sidecar":
        path.with_suffix(".json").write_text('{"made_at": 1}')
    elif what == "another device":
        device_id = "device-2"
    elif what == "newer":
        path.with_suffix(".json").unlink()
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 999")
    elif what == "log":
        path.with_name(f"{path.name}-wal").touch()
    elif what == "nothing":
        path = path.with_name("dermascan-000009.db")
    else:
        path.write_bytes(b"")
    with pytest.raises(StoreError):
        restore(path, state_dir, device_id, "Kim", PLAIN)
    assert (state_dir / "dermascan.db").read_bytes() == before
    assert not (state_dir / REPLACED).exists()
    assert not list(state_dir.glob(f"{READY}*"))


@pytest.mark.fault("F11")
@pytest.mark.requirement("R-REC-6")
def test_a_power_cut_at_each_step_of_the_exchange_leaves_old_or_new(  # noqa: PLR0917
    filled, state_dir, tmp_path, open_store, claim, monkeypatch
):
    """Broken off at every rename: the next start has the one or the other, whole, and what was in use is somewhere."""
    path, _, _ = backup(state_dir, tmp_path / "copies")
    claim(filled, "late")
    filled.close()
    real, cut_at = Path.rename, 0
    outcomes = set()
    while True:
        left = cut_at

        def rename(self, target):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            try:
                restore(path, state_dir, "device-1", "Kim", PLAIN)
                broken = False
            except KeyboardInterrupt:
                broken = True
        store = open_store()
        outcomes.add(store.counts().received)
        store.close()
        if not broken:
            break
        cut_at += 1
    assert cut_at >= 2
    assert outcomes == {0}, "once the copy was ready, every start takes it into use"
    aside = [len(rows(file, "scans")) for file in (state_dir / REPLACED).glob("*/dermascan.db")]
    assert 31 in aside, "the database that was in use is still there"
    assert not list(state_dir.glob("quarantine")), "and none was taken for damaged"


def test_an_exchange_never_writes_over_what_was_put_aside(state_dir):
    state_dir.mkdir()
    for number in range(3):
        (state_dir / "dermascan.db").write_text(f"old {number}")
        (state_dir / READY).write_text(f"new {number}")
        folder = take_into_use(state_dir)
        assert folder is not None
        (folder / "GOING-ON").touch()  # a cut right before the last step
        assert (state_dir / "dermascan.db").read_text() == f"new {number}"
    assert sorted(file.read_text() for file in state_dir.glob("replaced/*/dermascan.db")) == ["old 0", "old 1", "old 2"]


@pytest.mark.requirement("R-PAT-3")
def test_who_was_erased_since_is_erased_in_what_is_restored(filled, state_dir, tmp_path, open_store):
    path, _, _ = backup(state_dir, tmp_path / "copies")
    assert erasing.erase(filled, state_dir, None, "P-7", "Kim").scans == 1
    filled.close()
    assert b"P-7" in path.read_bytes()
    assert restore(path, state_dir, "device-1", "Kim", PLAIN).erased_again == 1
    assert b'"P-7"' not in (state_dir / "dermascan.db").read_bytes()
    assert b'"P-8"' in (state_dir / "dermascan.db").read_bytes()


@pytest.mark.requirement("R-PAT-3")
def test_the_next_backup_replaces_those_from_before_an_erasure(filled, state_dir, tmp_path):
    copies = tmp_path / "copies"
    backup(state_dir, copies)
    backup(state_dir, copies)
    erasing.erase(filled, state_dir, None, "P-7", "Kim")
    path, _, gone = backup(state_dir, copies)
    assert len(gone) == 2
    assert listed(copies) == [path]
    assert b'"P-7"' not in path.read_bytes()
    assert backup(state_dir, copies)[2] == []


@pytest.mark.fault("F10")
def test_a_damaged_database_gives_no_backup_and_costs_none(filled, state_dir, tmp_path):
    copies = tmp_path / "copies"
    backup(state_dir, copies)
    filled.close()
    database = state_dir / "dermascan.db"
    size = database.stat().st_size
    with database.open("r+b") as file:
        for page in random.Random(3).sample(range(4, size // 4096), 5):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with pytest.raises(StoreError):
        backup(state_dir, copies, keep=1)
    assert [path.name for path in listed(copies)] == ["dermascan-000001.db"]


def test_a_broken_audit_is_copied_and_said(filled, state_dir, tmp_path):
    filled.audit(AuditAction.SIGN_IN, "Kim", "clinician", None, {}).result(10)
    filled.change(lambda db: db.execute("DROP TRIGGER audit_stays_as_it_is")).result(10)
    filled.change(lambda db: db.execute("UPDATE audit SET who = 'Eve' WHERE seq = 2")).result(10)
    _, made, _ = backup(state_dir, tmp_path / "copies")
    assert made.audit_fault is not None
    assert json.loads((tmp_path / "copies" / "dermascan-000001.json").read_text())["audit_fault"] == made.audit_fault
