"""The database: stamps, pages, log and quarantine (F08, F10)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.doctor.checks import database as check
from agent.doctor.checks.database import CHECK
from agent.doctor.finding import Outcome
from agent.intake.capture import FileStamp
from agent.records.sealing import read_seal
from agent.records.store import Store
from tests.doctor.conftest import look


@pytest.fixture
def database(make_place, make_store, tmp_path: Path) -> Path:
    make_store().close()
    return tmp_path / "state" / "dermascan.db"


def test_a_whole_database_with_the_agent_running_or_not(make_place, make_store) -> None:
    place = make_place()
    assert look(CHECK, place).one(Outcome.SKIPPED, "no database yet")
    store = make_store()
    assert look(CHECK, place).ok
    store.close()
    assert look(CHECK, place).ok


@pytest.mark.fault("F10")
@pytest.mark.parametrize(("content", "text"), [(b"", "is empty"), (b"no database at all, of 30 bytes", "first bytes")])
def test_what_is_no_database(make_place, database: Path, content: bytes, text: str) -> None:
    database.write_bytes(content)
    finding = look(CHECK, make_place()).one(Outcome.FAILED)
    assert text in finding.sentence
    assert "systemctl restart dermascan-agent.service" in finding.remedy


@pytest.mark.fault("F10")
def test_a_damaged_page(make_place, database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[4096 * 3 : 4096 * 9] = b"\xa5" * 4096 * 6
    database.write_bytes(data)
    assert "damaged" in look(CHECK, make_place()).one(Outcome.FAILED).sentence


@pytest.mark.fault("F10")
def test_a_database_that_is_gone_while_its_answers_are_not(make_place, database: Path) -> None:
    (database.parent / "results" / "scan.json").write_text("{}")
    for one in database.parent.glob("dermascan.db*"):
        one.unlink()
    assert "is gone" in look(CHECK, make_place()).one(Outcome.FAILED).sentence


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("PRAGMA application_id = 1", "not made by this agent"),
        ("PRAGMA user_version = 99", "newer software"),
        ("UPDATE device SET id = 'device-2'", "'device-2'"),
    ],
)
def test_another_ones_database(make_place, database: Path, statement: str, text: str) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute(statement)
    assert look(CHECK, make_place()).one(Outcome.FAILED, text)


@pytest.mark.fault("F08")
def test_a_log_that_grows(make_place, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LARGE_LOG", 0)
    database.with_name("dermascan.db-wal").touch()
    assert "log has grown" in look(CHECK, make_place()).one(Outcome.WARNING).sentence


def test_a_key_that_is_lost(make_place, make_store, tmp_path: Path) -> None:
    (tmp_path / "field.key").write_bytes(bytes(range(32)))
    (tmp_path / "field.key").chmod(0o600)
    privacy = ("[store]", '[privacy]\nfield_key_file = "field.key"\n\n[store]')
    place = make_place(privacy)
    store = Store.open(
        place.state_dir,
        "device-1",
        256,
        clinic_id="clinic-1",
        software_version="9.9",
        seal=read_seal(tmp_path / "field.key"),
    )
    claim = store.claim("sha256:aa", "aa", tmp_path / "a.jpg", "scope-1", FileStamp(1, 2, 3, 4, 5)).result()
    store.add_metadata(claim.scan_id, {"patient_id": "P"}).result()
    store.close()
    assert look(CHECK, place).ok
    finding = look(CHECK, make_place()).one(Outcome.FAILED, "sealed with key")
    assert finding.remedy.startswith("put that file back")


def test_one_too_large_to_be_looked_through_in_time(make_place, database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LOOK_S", -1.0)
    monkeypatch.setattr(check, "_STEPS", 1)
    assert look(CHECK, make_place()).one(Outcome.SKIPPED, "too large")


def test_quarantine(make_place, database: Path) -> None:
    folder = database.parent / "quarantine" / "1"
    folder.mkdir(parents=True)
    assert look(CHECK, make_place()).one(Outcome.FAILED, "not carried over")
    (folder / "SALVAGED").touch()
    assert look(CHECK, make_place()).one(Outcome.WARNING, "replaced once")
