"""Who did what is kept in a chain that shows every change to it, and holds nothing of the patient."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from agent.records import audit
from agent.records.audit import BEFORE_THE_FIRST, COLUMNS, AuditRow
from agent.records.audit_reading import MOST_FAULTS, TOGETHER, Check, exported, rows_since, verify
from agent.records.errors import VerdictRefused
from agent.records.reading import StoreError
from agent.records.salvage import salvage
from agent.records.spool import REFUSED, SPOOL, AuditOrder, Spool, VerdictOrder, place, waiting
from agent.records.store import Actor, AuditAction, Clocks, Store

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = 10


def add(store: Store, count: int = ROWS) -> None:
    promises = [
        store.audit(AuditAction.SIGN_IN, f"Dr {number}", "clinician", f"token-{number}", {"way": "page", "n": number})
        for number in range(1, count + 1)
    ]
    assert [promise.result(10) for promise in promises] == [*range(promises[0].result(), promises[0].result() + count)]


@pytest.fixture
def audited(open_store, state_dir) -> Path:
    """A state_dir whose database has ten rows in its audit; nobody has it open."""
    store = open_store()
    add(store)
    store.close()
    assert verify(state_dir).whole
    return Path(state_dir)


def tamper(state_dir: Path, *statements: str) -> Check:
    """What somebody can do who may write the file, without the triggers; then verify it."""
    with closing(sqlite3.connect(state_dir / "dermascan.db", isolation_level=None)) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'").fetchall()
        for (name,) in names:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
    return verify(state_dir)


def written_anew(rows: list[AuditRow]) -> list[AuditRow]:
    """The rows with numbers and hashes as they must be: what a forger who has this code can do."""
    previous_hash, chain = BEFORE_THE_FIRST, []
    for seq, row in enumerate(rows, 1):
        forged = replace(row, seq=seq, previous_hash=previous_hash)
        previous_hash = audit.hash_of(vars(forged))
        chain.append(replace(forged, hash=previous_hash))
    return chain


def put(state_dir: Path, rows: list[AuditRow]) -> Check:
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        db.execute("DROP TRIGGER audit_stays")
        db.execute("DELETE FROM audit")
        for row in rows:
            values = [getattr(row, name) for name in COLUMNS]
            db.execute(f"INSERT INTO audit VALUES ({', '.join('?' * len(COLUMNS))})", values)  # noqa: S608
        db.commit()
    return verify(state_dir)


def test_a_row_says_who_did_what_and_when(open_store, state_dir):
    store = open_store()
    before = datetime.now(timezone.utc).isoformat()
    detail = {"b": 1, "a": "é", "c": [True, None]}
    assert store.audit(AuditAction.EXPORT, "Dr Kim", "clinician", "scan-1", detail).result(10) == 1
    (row,) = rows_since(state_dir)
    assert (row.seq, row.who, row.role, row.action, row.subject) == (1, "Dr Kim", "clinician", "export", "scan-1")
    assert row.detail == '{"a":"\\u00e9","b":1,"c":[true,null]}'
    assert row.at > before[:19]
    assert row.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (row.clock_trusted, row.previous_hash) == (False, BEFORE_THE_FIRST)
    assert store.audit_head() == (1, row.hash)


def test_the_hash_can_be_computed_by_others_from_what_is_exported(audited):
    previous_hash = BEFORE_THE_FIRST
    for row in rows_since(audited):
        plain = json.loads(json.dumps(exported(row)))
        said = plain.pop("hash")
        assert plain["previous_hash"] == previous_hash
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert hashlib.sha256(text.encode()).hexdigest() == said
        previous_hash = said
    assert previous_hash == verify(audited).head


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'nobody' WHERE seq = 3",
        "UPDATE audit SET hash = 'x'",
        "DELETE FROM audit WHERE seq = 10",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT seq, at, 1, '', '', role, action, subject, detail, '', '', 'x' FROM audit",
        "REPLACE INTO audit SELECT seq + 20, at, 1, '', 'no', role, action, subject, detail, '', '', hash FROM audit",
        "UPDATE OR REPLACE audit SET seq = 4 WHERE seq = 3",
    ],
)
@pytest.mark.requirement("R-SEC-5")
def test_the_database_itself_refuses_to_change_a_row(audited, statement):
    with closing(sqlite3.connect(audited / "dermascan.db")) as db, pytest.raises(sqlite3.IntegrityError, match="audit"):
        db.execute(statement)
    assert verify(audited).whole


COPY = (
    "INSERT INTO audit SELECT {seq}, at, clock_trusted, boot_id, 'intruder', role, action, subject, detail, NULL,"
    " previous_hash, 'x' || hash FROM audit WHERE seq = 5"
)


@pytest.mark.parametrize(
    ("statements", "first", "sentence"),
    [
        (["UPDATE audit SET who = 'nobody' WHERE seq = 4"], 4, "its content is not what was written"),
        (["UPDATE audit SET at = '2020-01-01T00:00:00.000Z' WHERE seq = 1"], 1, "its content"),
        (["UPDATE audit SET clock_trusted = 1 WHERE seq = 10"], 10, "its content"),
        (["UPDATE audit SET subject = NULL WHERE seq = 4"], 4, "its content"),
        (["UPDATE audit SET reference = 'new' WHERE seq = 4"], 4, "its content"),
        (["UPDATE audit SET detail = replace(detail, ',', ', ') WHERE seq = 4"], 4, "its content"),
        (["UPDATE audit SET detail = 'no JSON' WHERE seq = 4"], 4, "its content"),
        (["UPDATE audit SET detail = '[' || detail WHERE seq = 4"], 4, "its content"),
        (["UPDATE audit SET who = CAST(x'ff' AS TEXT) WHERE seq = 4"], 4, "its content"),
        (["UPDATE audit SET hash = 'x' WHERE seq = 4"], 4, "its content"),
        (["UPDATE audit SET previous_hash = 'x' WHERE seq = 4"], 4, "its content"),
        (["DELETE FROM audit WHERE seq = 4"], 5, "row 4 before it is missing"),
        (["DELETE FROM audit WHERE seq BETWEEN 4 AND 6"], 7, "each of rows 4 to 6 before it is missing"),
        (["DELETE FROM audit WHERE seq = 1"], 2, "row 1 before it is missing"),
        (["DELETE FROM audit WHERE seq > 8"], 9, "each of rows 9 to 10 at the end is missing"),
        (["DELETE FROM audit"], 1, "each of rows 1 to 10 at the end is missing"),
        ([COPY.format(seq=11)], 11, "its content"),
        (
            ["UPDATE audit SET seq = seq + 100 WHERE seq > 5", COPY.format(seq=6),
             "UPDATE audit SET seq = seq - 99 WHERE seq > 100"],
            6,
            "its content",
        ),
        (
            ["UPDATE audit SET seq = 99 WHERE seq = 4", "UPDATE audit SET seq = 4 WHERE seq = 7",
             "UPDATE audit SET seq = 7 WHERE seq = 99"],
            4,
            "its content",
        ),
        (["UPDATE audit SET seq = seq + 1"], 1, ""),
    ],
)  # fmt: skip
@pytest.mark.requirement("R-SEC-5")
def test_whatever_is_done_to_a_row_is_found_and_the_first_is_named(audited, statements, first, sentence):
    if "seq = seq + 1" in statements[0]:
        statements = ["UPDATE audit SET seq = -seq", "UPDATE audit SET seq = 1 - seq"]
        first = 2
    check = tamper(audited, *statements)
    assert not check.whole
    assert check.faults[0].seq == first
    assert sentence in check.faults[0].sentence


def test_a_row_that_was_changed_with_its_hash_is_found_by_the_one_after_it(audited):
    (row,) = (row for row in rows_since(audited) if row.seq == 4)
    forged = replace(row, who="nobody")
    change = f"UPDATE audit SET who = 'nobody', hash = '{audit.hash_of(vars(forged))}' WHERE seq = 4"  # noqa: S608
    check = tamper(audited, change)
    assert [fault.seq for fault in check.faults] == [5]
    assert "does not follow the row before it" in check.faults[0].sentence


def test_a_table_that_was_written_anew_is_only_found_by_a_head_that_was_noted(audited):
    noted = verify(audited).head
    rows = list(rows_since(audited))
    assert put(audited, written_anew(rows)).head == noted, "the same rows have the same chain"
    with closing(sqlite3.connect(audited / "dermascan.db")) as db:
        db.execute("CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'it stays'); END")
    forged = put(audited, written_anew([replace(row, who="nobody" if row.seq == 4 else row.who) for row in rows]))
    assert forged.whole, "this is why the head is noted elsewhere"
    check = verify(audited, noted)
    assert not check.whole
    assert f"no row has the noted hash {noted}" in check.faults[0].sentence


def test_a_noted_head_is_found_however_long_ago_it_was(open_store, audited):
    noted = verify(audited).head
    store = open_store()
    add(store, 5)
    assert verify(audited, noted).whole
    assert verify(audited, noted).rows == ROWS + 5
    assert verify(audited, BEFORE_THE_FIRST).whole


def test_many_faults_are_counted_and_some_are_named(open_store, state_dir):
    store = open_store()
    add(store, 100)
    store.close()
    check = tamper(state_dir, "UPDATE audit SET who = 'nobody'")
    assert (len(check.faults), check.more_faults) == (MOST_FAULTS, 100 - MOST_FAULTS)


def test_what_comes_after_a_change_still_joins_on_and_the_fault_stays(open_store, audited):
    tamper(audited, "DELETE FROM audit WHERE seq = 4")
    add(open_store(), 3)
    check = verify(audited)
    assert [fault.seq for fault in check.faults] == [5]
    assert check.head_seq == ROWS + 3


def test_an_empty_audit_is_whole(open_store, state_dir):
    open_store()
    assert verify(state_dir) == Check(0, 0, BEFORE_THE_FIRST, (), 0)
    assert list(rows_since(state_dir)) == []
    assert list(rows_since(state_dir, "2026-01-01")) == []


def test_without_a_database_it_says_so(tmp_path):
    with pytest.raises(StoreError, match="there is no database yet"):
        verify(tmp_path)


def test_more_rows_than_one_look_takes(open_store, state_dir):
    store = open_store()
    add(store, 2 * TOGETHER + 1)
    assert verify(state_dir).rows == 2 * TOGETHER + 1
    assert sum(1 for _ in rows_since(state_dir)) == 2 * TOGETHER + 1


def test_many_threads_and_a_reader_at_once_leave_one_whole_chain(open_store, state_dir):
    store, stop, checks = open_store(), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            checks.append(verify(state_dir))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=add_some, args=(store, name)) for name in "abcdefgh"]
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert all(check.whole for check in checks)
    assert verify(state_dir).rows == 8 * 50
    assert [row.seq for row in rows_since(state_dir)] == list(range(1, 401))


def add_some(store: Store, name: str) -> None:
    for number in range(50):
        store.audit(AuditAction.SIGN_IN, name, "clinician", None, {"n": number}).result(10)


@pytest.mark.fault("F19")
def test_what_is_told_twice_is_kept_once(open_store, state_dir):
    store = open_store()
    twice = [
        store.audit(AuditAction.CALIBRATION, "Kim", "shell", "cal-1", {}, reference="calibration:1").result(10)
        for _ in range(2)
    ]
    assert twice == [1, 1]
    store.audit(AuditAction.CALIBRATION, "Kim", "shell", "cal-2", {}, reference="calibration:2").result(10)
    assert verify(state_dir).rows == 2
    last = store.last_audited("calibration:")
    assert last is not None
    assert last.subject == "cal-2"
    assert store.last_audited("model:") is None


@pytest.mark.fault("F16")
def test_the_export_goes_by_order_so_that_a_clock_that_goes_back_hides_nothing(state_dir):
    times = iter([f"20{year}-01-01" for year in ("27", "28", "27", "29")] + ["1970-01-01"] * 9)
    clocks = Clocks(wall=lambda: datetime.fromisoformat(f"{next(times)}T00:00:00+00:00"), trusted=lambda: True)
    with Store.open(state_dir, "d", 256, clinic_id="c", software_version="9", clocks=clocks) as store:
        for number in range(5):
            store.audit(AuditAction.SIGN_IN, "Kim", "clinician", str(number), {}).result(10)
    assert [row.subject for row in rows_since(state_dir, "2028-01-01")] == ["1", "2", "3", "4"]
    assert [row.subject for row in rows_since(state_dir, "2029-01-01")] == ["3", "4"]
    assert list(rows_since(state_dir, "2030-01-01")) == []


# The patient


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    "detail",
    [
        {"patient_id": "x"},
        {"PatientName": "x"},
        {"patients": ["x"]},
        {"note": "x"},
        {"what": {"birth_date": "x"}},
        {"what": [{"age": 3}]},
        {"body_site": "arm"},
        {"long": "x" * 5000},
        {"a float": 0.1},
        {"bytes": b"x"},
        {1: "x"},
    ],
)
def test_what_may_not_be_kept_is_refused_at_once(open_store, state_dir, detail):
    with pytest.raises(ValueError, match=r"patient|detail"):
        open_store().audit(AuditAction.EXPORT, "Kim", "clinician", "scan-1", detail)
    assert verify(state_dir).rows == 0


def test_names_cannot_break_out_of_their_line_and_half_characters_are_kept_as_unknown(open_store, state_dir):
    store = open_store()
    store.audit(AuditAction.SIGN_IN, "Kim\n\x1b[31m" + "x" * 1000, "clinician", "\udcff", {"who": "\udcff"}).result(10)
    (row,) = rows_since(state_dir)
    assert row.who.startswith("Kim\ufffd\ufffd[31m")
    assert len(row.who) == audit.LONGEST_TEXT
    assert row.subject == "\ufffd"
    assert verify(state_dir).whole


# Verdicts


@pytest.fixture
def scan_id(open_store, claim, answer_json) -> str:
    store = open_store()
    found: str = claim(store).scan_id
    store.answer(found, answer_json(found), "cpu").result(10)
    store.close()
    return found


@pytest.mark.fault("F30")
@pytest.mark.requirement("R-SEC-5")
def test_a_verdict_is_audited_with_who_sent_it_and_without_a_word_of_his(open_store, state_dir, scan_id):
    store = open_store()
    for _ in range(2):
        store.verdict(
            scan_id,
            "melanoma",
            "clinician",
            "CANARY by",
            "CANARY note",
            verdict_id="v-1",
            actor=Actor("Dr Kim", "clinician"),
        ).result(10)
    (row,) = rows_since(state_dir)
    assert (row.who, row.role, row.action, row.subject) == ("Dr Kim", "clinician", "verdict", scan_id)
    assert json.loads(row.detail) == {"source": "clinician", "verdict_id": "v-1", "withdrawn": False}
    assert "CANARY" not in str(row)
    store.verdict(scan_id, "melanoma", "histopathology", "Dr Lee").result(10)
    assert [(row.who, row.role) for row in rows_since(state_dir)][1:] == [("Dr Lee", "shell")]


def test_a_verdict_that_is_refused_is_not_audited_and_one_that_is_not_audited_is_not_kept(
    open_store, state_dir, scan_id, monkeypatch
):
    store = open_store()
    with pytest.raises(VerdictRefused):
        store.verdict(scan_id, "a mole", "clinician").result(10)
    assert verify(state_dir).rows == 0

    def broken(*_: object) -> int:
        raise sqlite3.IntegrityError("no audit today")

    monkeypatch.setattr(audit, "append", broken)
    with pytest.raises(sqlite3.IntegrityError):
        store.verdict(scan_id, "melanoma", "clinician").result(10)
    assert store.verdicts(scan_id) == []
    assert store.outbox_stats().waiting == 1, "only the result's event"


@pytest.mark.fault("F11")
@pytest.mark.parametrize("step", ["before", "after"])
def test_killed_at_the_audit_there_is_a_verdict_with_its_row_or_neither(open_store, state_dir, scan_id, step):
    order = {"id": "v-1", "scan_id": scan_id, "diagnosis": "melanoma", "source": "clinician"}
    place(state_dir, VerdictOrder(**order, given_at="2026-01-02T03:04:05.678Z"))
    dying = subprocess.run(
        [sys.executable, "-c", DYING, str(state_dir), step], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert dying.returncode == -9, dying.stderr
    store = open_store()
    assert (len(store.verdicts(scan_id)), verify(state_dir).rows) == ((0, 0) if step == "before" else (1, 1))
    Spool(store, state_dir, threading.Event()).take_up()
    assert (len(store.verdicts(scan_id)), verify(state_dir).rows) == (1, 1)
    assert verify(state_dir).whole


DYING = """
import functools, sqlite3, sys, threading
from pathlib import Path
from agent.records.spool import Spool
from agent.records.store import Store
from tests.faults.crashing_agent import DyingConnection

state_dir, step = Path(sys.argv[1]), sys.argv[2]
DyingConnection.marker, DyingConnection.when = "INSERT INTO audit", step
sqlite3.connect = functools.partial(sqlite3.connect, factory=DyingConnection)
store = Store.open(state_dir, "device-1", 256, clinic_id="clinic-1", software_version="9.9")
Spool(store, state_dir, threading.Event()).take_up()
"""


# Commands


def order(**changes: object) -> AuditOrder:
    fields = {"id": "o-1", "action": "export", "who": "kim", "subject": "scan-1", "detail": {"format": "fhir"}}
    return AuditOrder.model_validate(fields | {"at": "2026-01-02T03:04:05.678Z"} | changes)


@pytest.mark.fault("F19")
def test_what_a_command_did_is_audited_once_however_often_its_order_is_found(open_store, state_dir):
    store = open_store()
    for _ in range(2):
        place(state_dir, order())
    assert Spool(store, state_dir, threading.Event()).take_up() == 2
    (row,) = rows_since(state_dir)
    assert (row.who, row.role, row.action, row.subject) == ("kim", "shell", "export", "scan-1")
    assert row.at == "2026-01-02T03:04:05.678Z"


@pytest.mark.fault("F30")
def test_an_order_with_a_patient_in_it_is_put_aside(open_store, state_dir):
    store = open_store()
    path = place(state_dir, order(detail={"patient_id": "CANARY"}))
    assert Spool(store, state_dir, threading.Event()).take_up() == 0
    assert waiting(state_dir) == (0, 1)
    assert (state_dir / SPOOL / REFUSED / path.name).exists()


def test_no_order_can_forge_a_sign_in_or_a_verdict():
    for action in ("sign-in", "verdict", "override", "erase"):
        with pytest.raises(ValueError, match="action"):
            order(action=action)


# Damage


@pytest.mark.fault("F10")
def test_a_salvaged_audit_is_carried_over_and_says_that_it_was(audited, open_store):
    with (audited / "dermascan.db").open("r+b") as file:
        file.write(b"x" * 16)
    open_store()
    check = verify(audited)
    assert check.whole
    rows = list(rows_since(audited))
    assert len(rows) == ROWS + 1
    assert (rows[-1].action, rows[-1].role) == ("salvage", "device")
    assert json.loads(rows[-1].detail)["carried_over"]["audit"] == ROWS


@pytest.mark.fault("F10")
def test_rows_that_damage_took_are_missed_and_the_others_are_kept(audited, open_store, tmp_path):
    tamper(audited, "DELETE FROM audit WHERE seq IN (4, 5)")
    new = Store.open(tmp_path / "new", "device-1", 256, clinic_id="c", software_version="9")
    new.close()
    with closing(sqlite3.connect(tmp_path / "new" / "dermascan.db", isolation_level=None)) as db:
        assert salvage(audited / "dermascan.db", db)["audit"] == ROWS - 2
    (fault,) = verify(tmp_path / "new").faults
    assert (fault.seq, fault.sentence) == (6, "each of rows 4 to 5 before it is missing")


def test_the_same_numbers_from_everywhere(open_store: Callable[..., Store], state_dir: Path) -> None:
    """The columns that are hashed are the table's, so that none can be added that the chain does not cover."""
    open_store().close()
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        assert tuple(row[1] for row in db.execute("PRAGMA table_info(audit)")) == COLUMNS
