"""Old scans are reduced in order and never below what must stay (F06)."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.records import giving_up
from agent.records.giving_up import Kept
from agent.records.keeping import retention
from agent.records.keeping.files import remove_listed
from agent.records.keeping.retention import GivenUp, Retention
from agent.records.results import write_results
from agent.records.space import Space, SpaceGuard
from agent.records.store import ClaimOutcome, Clocks, Store

IN_1970 = 20800
"""So many days ago the clock's own time begins."""
NOW = datetime(2026, 12, 24, 12, tzinfo=timezone.utc)


class Clock:
    """Wall and monotonic, turned by hand."""

    def __init__(self) -> None:
        self.now, self.seconds, self.trusted = NOW, 1000.0, True
        self.trusted_then = True
        """Whether it could be right when a scan was claimed."""

    def pass_by(self, **delta: float) -> None:
        step = timedelta(**delta)
        self.now += step
        self.seconds += step.total_seconds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(state_dir: Path, clock: Clock):
    clocks = Clocks(wall=lambda: clock.now, trusted=lambda: clock.trusted_then)
    with Store.open(state_dir, "device-1", 256, clinic_id="c", software_version="9", clocks=clocks) as opened:
        yield opened


@pytest.fixture
def guard(state_dir: Path, store) -> SpaceGuard:
    return SpaceGuard(state_dir, 256)


@pytest.fixture
def keep(store, state_dir, guard, clock):
    def make(days: int | None = None) -> Retention:
        return Retention(
            store,
            state_dir,
            guard,
            days,
            wall=lambda: clock.now,
            trusted=lambda: clock.trusted,
            monotonic=lambda: clock.seconds,
        )

    return make


@pytest.fixture
def scan(store, claim, answer_json, clock, state_dir):
    """An answered scan with its files, that ended so many days ago."""

    def make(name: str, days: float, *, sent: bool = True, upload: bool = False, size: int = 2000) -> str:
        here, clock.now = clock.now, clock.now - timedelta(days=days)
        clock.trusted_then = clock.now.year > 1999
        path = f"/scope/{name}.jpg"
        if upload:
            folder = state_dir / "uploads" / "api"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.jpg").write_bytes(b"picture")
            (folder / f"{name}.json").write_text('{"patient_id": "CANARY-PATIENT"}')
            path = str(folder / f"{name}.jpg")
        scan_id = claim(store, name, path).scan_id
        store.answer(
            scan_id, answer_json(scan_id, attention_bytes=size), "cpu", {"patient_id": "CANARY-PATIENT", "age": "7"}
        ).result(10)
        write_results(store.results_folder, scan_id, store.result_bytes(scan_id), b"overlay of " + scan_id.encode())
        store.files_written(scan_id).result(10)
        if sent:
            events = [row.event_id for row in store.outbox_due(1000, fresh_after_seq=0)]
            store.outbox_acknowledge(events).result(10)
        clock.now, clock.trusted_then = here, True
        return scan_id

    return make


def row(store: Store, scan_id: str) -> dict[str, object]:
    names = "kept, metadata, result, path, files_written, state"
    values = store.look(lambda db: db.execute(f"SELECT {names} FROM scans WHERE scan_id = ?", (scan_id,)).fetchone())  # noqa: S608
    return dict(zip(names.split(", "), values, strict=True))


def test_an_old_scan_is_reduced_to_its_answer(store, state_dir, keep, scan):
    old, young = scan("old", 400), scan("young", 300)
    report = keep(365).run()
    assert (report.given_up.fields, report.doubt) == (1, None)
    kept = row(store, old)
    answer = json.loads(str(kept["result"]))
    assert (kept["kept"], kept["metadata"]) == ("answer_only", "{}")
    assert (answer["patient_id"], answer["attention_map"], answer["diagnosis"]["primary"]) == (None, "", "melanoma")
    assert json.loads((state_dir / "results" / f"{old}.json").read_text()) == answer
    assert not (state_dir / "results" / f"{old}.png").exists()
    assert row(store, young)["kept"] == "whole"
    assert (state_dir / "results" / f"{young}.png").exists()
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        (detail,) = db.execute("SELECT detail FROM audit WHERE action = 'retention'").fetchone()
    assert json.loads(detail) == {"scans": 1, "older_than_days": 365}


def test_a_reduced_scan_is_known_when_its_picture_comes_again_and_gets_no_patient(store, keep, scan, claim):
    old = scan("old", 400)
    keep(365).run()
    assert claim(store, "old").outcome is ClaimOutcome.KNOWN
    assert not any(one.unnamed for one in store.scans_at(Path("/scope/old")))
    assert store.add_metadata(old, {"patient_id": "CANARY-PATIENT"}).result(10) is False
    assert row(store, old)["metadata"] == "{}"


@pytest.mark.fault("F06")
def test_what_never_goes(store, keep, scan, claim):
    """An unsent event and its scan, a verdict, the audit, a capture that is not answered."""
    unsent = scan("unsent", 900, sent=False)
    judged = scan("judged", 900, sent=False)
    store.verdict(judged, "melanoma", "clinician", "Kim", "a note").result(10)
    dead, *_ = [one for one in store.outbox_due(10, fresh_after_seq=0) if one.type.endswith("result.v1")]
    claim(store, "unanswered")
    before = store.counts()
    audit = store.audit_head()
    assert not keep(30).run().given_up
    store.outbox_dead(dead.event_id, "too large").result(10)
    assert not keep(30).run().given_up
    assert {row(store, one)["kept"] for one in (unsent, judged)} == {"whole"}
    assert (store.counts().received, store.counts().answered) == (before.received, before.answered)
    assert [one.note for one in store.verdicts(judged)] == ["a note"]
    assert store.audit_head() == audit


def test_events_that_have_arrived_lose_their_bytes_and_are_still_known(store, keep, scan):
    scan("old", 400)
    report = keep(365).run()
    assert report.given_up.events == 1
    sql = "SELECT state, event FROM outbox LEFT JOIN outbox_events USING (seq)"
    assert store.look(lambda db: db.execute(sql).fetchall()) == [("acknowledged", None)]
    assert store.counts().acknowledged == 1


def test_an_upload_goes_with_its_sidecar(store, state_dir, keep, scan):
    scan("a" * 64, 400, upload=True)
    keep(365).run()
    assert list((state_dir / "uploads").rglob("*.j*")) == []


@pytest.mark.fault("F11")
def test_a_crash_between_decision_and_deed_leaves_no_file(store, state_dir, scan):
    old = scan("a" * 64, 400, upload=True)
    store.change(lambda db: giving_up.reduce(db, state_dir, [old], Kept.ANSWER_ONLY)).result(10)
    assert (state_dir / "results" / f"{old}.png").exists(), "the crash comes here"
    assert [one.scan_id for one in store.without_files()] == [old], "its JSON is written again at the next start,"
    assert [one.result for one in store.without_files()] == [None], "without the overlay"
    remove_listed(store, state_dir)
    assert not (state_dir / "results" / f"{old}.png").exists()
    assert list((state_dir / "uploads").rglob("*.j*")) == []


def test_nothing_outside_is_ever_removed(store, state_dir, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("x")
    for path in ("../outside.txt", str(outside), "results/../../outside.txt", "agent.lock"):
        store.change(lambda db, path=path: db.execute("INSERT INTO removals VALUES (?)", (path,))).result(10)
    remove_listed(store, state_dir)
    assert outside.exists()
    assert (state_dir / "agent.lock").exists()


class Pressed(SpaceGuard):
    """Full for as long as a test says."""

    still = staticmethod(lambda: True)

    def measure(self) -> Space:
        return Space(1000 if self.still() else 0, 0, 1000, 10 * retention.SHORT_DISK)


@pytest.mark.fault("F06")
def test_for_room_the_least_missed_goes_first_and_no_more_than_needed(store, state_dir, keep, scan, guard):
    scans = [scan(str(number), 400 - number) for number in range(3)] + [scan("young", 5)]
    guard.__class__ = Pressed
    keeper = keep()
    heavy = "SELECT count(*) FROM outbox_events"
    guard.still = lambda: store.look(lambda db: db.execute(heavy).fetchone()[0]) > 0
    done = keeper.run().given_up
    assert done.events == 4
    assert done.pictures == 0
    guard.still = lambda: True
    guard.measure()
    report = keeper.run()
    assert report.given_up.pictures == 3, "the young one keeps its pictures whatever happens"
    assert [row(store, one)["kept"] for one in scans] == ["without_pictures"] * 3 + ["whole"]
    assert json.loads(str(row(store, scans[0])["metadata"]))["patient_id"] == "CANARY-PATIENT", (
        "that is not room's matter"
    )
    assert report.short is not None
    assert "raise [store] quota_mb" in report.short


@pytest.mark.fault("F06")
def test_room_inside_the_database_counts_as_room(store, state_dir, guard, keep, scan):
    for number in range(40):
        scan(str(number), 400 - number, size=20_000)
    before = guard.measure().database
    keep(30).run()
    assert guard.measure().database < before - 40 * 15_000, "the file is as large as it was, and is filled again"


@pytest.mark.fault("F16")
@pytest.mark.parametrize("leap", [timedelta(days=20_000), timedelta(days=-400)])
def test_a_clock_that_leaps_gives_nothing_up_before_it_has_proved_itself(keep, scan, store, clock, leap):
    young = scan("young", 1)
    keeper = keep(365)
    assert keeper.run().doubt is None
    right, clock.now = clock.now, clock.now + leap
    assert "the clock" in str(keeper.run().doubt)
    clock.pass_by(hours=23)
    assert keeper.run().doubt is not None
    clock.now, clock.seconds = right + timedelta(hours=23), clock.seconds
    assert keeper.run().doubt is None, "it was set right"
    assert row(store, young)["kept"] == "whole"


@pytest.mark.fault("F16")
def test_a_clock_that_goes_on_evenly_for_a_day_is_believed(keep, scan, store, clock):
    scan("young", 1)
    keeper = keep(365)
    keeper.run()
    clock.now += timedelta(days=500)  # switched off for long
    assert keeper.run().doubt is not None
    clock.pass_by(hours=25)
    report = keeper.run()
    assert (report.doubt, report.given_up.fields) == (None, 1)


@pytest.mark.fault("F16")
def test_an_untrusted_clock_gives_nothing_up(keep, scan, clock):
    scan("old", 400)
    clock.trusted = False
    report = keep(30).run()
    assert (report.given_up, report.doubt) == (GivenUp(), "the clock cannot be right")


def test_it_is_counted(keep, scan):
    scan("a", 400)
    keeper = keep(365)
    first = keeper.run()
    scan("b", 400)
    assert keeper.run().total.fields == first.total.fields + 1 == 2


def test_it_is_looked_at_once_an_hour_for_age(keep, scan, store, clock):
    keeper = keep(365)
    keeper.look()
    old = scan("old", 400)
    clock.pass_by(minutes=50)
    keeper.look()
    assert row(store, old)["kept"] == "whole"
    clock.pass_by(minutes=15)
    keeper.look()
    assert row(store, old)["kept"] == "answer_only"


@pytest.mark.fault("F06")
@pytest.mark.fault("F16")
@pytest.mark.parametrize("room", [False, True], ids=["for its age", "for room"])
def test_a_scan_that_came_while_the_clock_was_wrong_is_as_old_as_its_neighbours(room, store, keep, scan, guard):
    oldest, amid_old = scan("oldest", 500), scan("amid old", IN_1970)
    old = scan("old", 400)
    between = scan("between", IN_1970)  # after an old one and before a young one: of unknown age, hence young
    young = scan("young", 10)
    after = [scan("after", IN_1970), scan("set back by a year", 400), scan("the newest", IN_1970)]
    if room:
        guard.measure = guard.space = lambda: Space(0, 100, 100, 1 << 40)
    keep(None if room else 365).run()
    kept = {scan_id: row(store, scan_id)["kept"] for scan_id in (oldest, amid_old, old, between, young, *after)}
    reduced = "without_pictures" if room else "answer_only"
    assert kept == {
        **dict.fromkeys((oldest, amid_old, old), reduced),
        **dict.fromkeys((between, young, *after), "whole"),
    }


@pytest.mark.fault("F16")
def test_nothing_is_old_on_a_device_whose_clock_was_never_right_before(store, keep, scan):
    scans = [scan("first", IN_1970), scan("second", IN_1970), scan("now that it is right", 0)]
    assert keep(365).run().given_up.fields == 0
    assert {row(store, scan_id)["kept"] for scan_id in scans} == {"whole"}


@pytest.mark.fault("F16")
def test_a_scan_that_came_while_the_clock_was_ahead_is_not_kept_until_then(store, keep, scan):
    ahead, old = scan("ahead", -20000), scan("old", 400)
    keep(365).run()
    assert row(store, ahead)["kept"] == row(store, old)["kept"] == "answer_only"


@pytest.mark.fault("F16")
def test_one_that_only_waited_long_for_its_end_keeps_no_other_young(store, keep, scan, *, claim, answer_json, clock):
    here, clock.now = clock.now, clock.now - timedelta(days=500)
    waited = claim(store, "waited", "/scope/waited.jpg").scan_id
    clock.now = here
    old = scan("old", 400)
    store.answer(waited, answer_json(waited), "cpu").result(10)
    store.outbox_acknowledge([row.event_id for row in store.outbox_due(1000, fresh_after_seq=0)]).result(10)
    keep(365).run()
    assert (row(store, old)["kept"], row(store, waited)["kept"]) == ("answer_only", "whole")
