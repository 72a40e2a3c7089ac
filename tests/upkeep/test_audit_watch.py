"""What commands put into use without the agent is in the audit once, whenever the agent learns of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from agent.records.audit_reading import rows_since, verify
from agent.records.store import Store, StoreFull
from agent.upkeep.audit_watch import AuditWatch
from calibration.shelf.record import RECORD_NAME, Event, Override, Record, What, record_bytes
from engines.installed.activation import Activation, Committed, Failure, Installed, Stage
from engines.installed.ledger import LEDGER_NAME, Ledger

AT = datetime(2026, 12, 1, 8, 30, tzinfo=timezone.utc)
HASHES = {"demo/1.0.0": "a" * 64, "demo/2.0.0": "b" * 64}


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state_dir: Path) -> Iterator[Store]:
    opened = Store.open(state_dir, "device-1", 256, clinic_id="clinic-1", software_version="9.9")
    yield opened
    opened.close()


@pytest.fixture
def places(state_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    models = tmp_path / "models"
    models.mkdir()
    return state_dir / "calibration", models


def told(state_dir: Path) -> list[tuple[str, str, str, str | None]]:
    assert verify(state_dir).whole
    return [(row.action, row.who, row.role, row.subject) for row in rows_since(state_dir)]


def details(state_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(row.detail) for row in rows_since(state_dir)]


def event(what: What, profile_id: str, days: int = 0, override: Override | None = None) -> Event:
    at = AT + timedelta(days=days)
    return Event(sequence=0, at=at, what=what, operator="Kim", profile_id=profile_id, override=override)


def keep(shelf: Path, *events: Event, dermoscope_id: str = "scope-1") -> None:
    record = Record(dermoscope_id=dermoscope_id)
    for one in events:
        record = record.with_event(one)
    folder = shelf / dermoscope_id
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".part"
    part.write_bytes(record_bytes(record))
    part.replace(folder / RECORD_NAME)


def committed(bundle: str, at: str) -> Committed:
    installed = Installed(bundle=bundle, manifest_sha256=HASHES[bundle])
    return Committed(installed=installed, verified_by="its record", at=at)


def use(models: Path, bundle: str, at: str = "2026-12-01T08:00:00+00:00", *failures: Failure) -> None:
    Ledger(models).change(lambda _: Activation(committed=committed(bundle, at), failures=failures))


def test_without_anything_nothing_is_audited(store, state_dir, places):
    for models in (places[1], places[1] / "none", None):
        AuditWatch(store, places[0], models).look()
    assert told(state_dir) == []


@pytest.mark.requirement("R-SEC-5")
def test_profiles_that_were_put_into_use_are_audited_once(store, state_dir, places):
    first = (event(What.FITTED, "cal-1"), event(What.VERIFIED, "cal-1"), event(What.ACTIVATED, "cal-1"))
    keep(places[0], *first)
    keep(places[0], event(What.ACTIVATED, "cal-9"), dermoscope_id="scope-2")
    watch = AuditWatch(store, *places)
    watch.look()
    watch.look()
    AuditWatch(store, *places).look()  # after a restart
    kept = [("calibration", "Kim", "shell", "cal-1"), ("calibration", "Kim", "shell", "cal-9")]
    assert told(state_dir) == kept
    keep(places[0], *first, event(What.ROLLED_BACK, "cal-0", 1))
    watch.look()
    assert told(state_dir) == [*kept, ("calibration", "Kim", "shell", "cal-0")]
    assert details(state_dir)[-1] == {
        "what": "rolled back",
        "dermoscope_id": "scope-1",
        "operator": "Kim",
        "verification_id": None,
    }
    assert [row.at for row in rows_since(state_dir)][-1] == "2026-12-02T08:30:00.000Z"


@pytest.mark.fault("F30")
def test_an_override_is_one_and_its_words_stay_where_they_were_written(store, state_dir, places):
    override = Override(name="Dr Lee", reason="CANARY: Mrs Smith waits")
    keep(places[0], event(What.ACTIVATED, "cal-1", override=override))
    AuditWatch(store, *places).look()
    assert told(state_dir) == [("override", "Dr Lee", "shell", "cal-1")]
    assert "CANARY" not in str(details(state_dir))


def test_a_record_that_begins_anew_is_not_taken_for_the_old_one(store, state_dir, places):
    keep(places[0], event(What.ACTIVATED, "cal-1"))
    AuditWatch(store, *places).look()
    keep(places[0], event(What.ACTIVATED, "cal-2", 3))
    AuditWatch(store, *places).look()
    assert [row[3] for row in told(state_dir)] == ["cal-1", "cal-2"]


@pytest.mark.requirement("R-SEC-5")
def test_models_are_audited_when_another_one_is_in_use_and_so_is_going_back(store, state_dir, places):
    watch = AuditWatch(store, *places)
    for bundle, at in (("demo/1.0.0", "1"), ("demo/2.0.0", "2"), ("demo/1.0.0", "1"), ("demo/2.0.0", "2")):
        use(places[1], bundle, at)
        watch.look()
        watch.look()
        AuditWatch(store, *places).look()
    assert told(state_dir) == [("model-change", "agent", "device", f"demo/{number}.0.0") for number in (1, 2, 1, 2)]
    assert details(state_dir)[0]["manifest_sha256"] == HASHES["demo/1.0.0"]


def test_a_model_that_was_given_up_is_audited_once(store, state_dir, places):
    failure = Failure(
        installed=Installed(bundle="demo/2.0.0", manifest_sha256=HASHES["demo/2.0.0"]),
        stage=Stage.PROVISIONAL,
        reason="ü" * 5000,
        at="2026-12-01T09:00:00+00:00",
    )
    use(places[1], "demo/1.0.0", "1", failure)
    for _ in range(2):
        AuditWatch(store, *places).look()
    assert [row[3] for row in told(state_dir)] == ["demo/2.0.0", "demo/1.0.0"]
    assert details(state_dir)[0]["outcome"] == "given up"


def test_a_bundle_that_the_settings_name_is_audited_when_it_changes(store, state_dir, places):
    for label in ("demo/1.0.0", "demo/1.0.0", "demo/2.0.0", "demo/1.0.0"):
        watch = AuditWatch(store, places[0], None, fixed=(label, HASHES[label]))
        watch.look()
        watch.look()
    assert [row[3] for row in told(state_dir)] == ["demo/1.0.0", "demo/2.0.0", "demo/1.0.0"]


def test_damaged_files_are_said_and_hold_nothing_else_up(store, state_dir, places, caplog):
    keep(places[0], event(What.ACTIVATED, "cal-1"), dermoscope_id="scope-2")
    (places[0] / "scope-1").mkdir()
    (places[0] / "scope-1" / RECORD_NAME).write_text("{")
    (places[1] / LEDGER_NAME).write_text("{")
    watch = AuditWatch(store, *places)
    for _ in range(100):
        watch.look()
    assert [row[3] for row in told(state_dir)] == ["cal-1"]
    assert caplog.text.count("cannot be audited") == 2
    keep(places[0], event(What.ACTIVATED, "cal-7"))
    watch.look()
    assert [row[3] for row in told(state_dir)] == ["cal-1", "cal-7"]


@pytest.mark.fault("F06")
def test_what_a_full_store_cannot_keep_is_kept_later(store, state_dir, places, monkeypatch, caplog):
    keep(places[0], event(What.ACTIVATED, "cal-1"))
    use(places[1], "demo/1.0.0")
    watch, audit = AuditWatch(store, *places), store.audit

    def full(*_args: object, **_keywords: object) -> None:
        raise StoreFull("the store is full")

    monkeypatch.setattr(store, "audit", full)
    watch.look()
    assert "cannot be audited yet: the store is full" in caplog.text
    monkeypatch.setattr(store, "audit", audit)
    watch.look()
    assert [row[3] for row in told(state_dir)] == ["cal-1", "demo/1.0.0"]


def test_a_look_where_nothing_is_new_asks_the_store_nothing(store, places, monkeypatch):
    keep(places[0], event(What.ACTIVATED, "cal-1"))
    use(places[1], "demo/1.0.0")
    watch = AuditWatch(store, *places)
    watch.look()
    monkeypatch.setattr(store, "audit", None)
    monkeypatch.setattr(store, "last_audited", None)
    watch.look()


def test_a_closed_store_is_no_error(store, places, caplog):
    keep(places[0], event(What.ACTIVATED, "cal-1"))
    watch = AuditWatch(store, *places)
    store.close()
    watch.look()
    assert caplog.text == ""
