"""A verdict is joined to its scan for good, kept whatever comes later, and told to the cloud without a name in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agent.intake.reasons import Reason
from agent.messages.catalogue import FEEDBACK
from agent.messages.envelope import Event, parse
from agent.records.errors import VerdictOverdue
from agent.records.store import Clocks, Store, UnknownScan, VerdictRefused
from agent.records.verdicts import VerdictCounts
from engines.classes import CLASSES


def feedback(store: Store) -> list[Event]:
    rows = store.outbox_due(100, fresh_after_seq=0, exclude=())
    return [parse(row.event, [FEEDBACK]) for row in rows if row.type == FEEDBACK.type]


@pytest.fixture
def answered(claim, answer_json):
    def answer_it(store: Store, name: str = "a") -> str:
        scan_id: str = claim(store, name).scan_id
        store.answer(scan_id, answer_json(scan_id), "cpu").result(10)
        return scan_id

    return answer_it


def test_a_verdict_is_kept_and_told_together(open_store, answered):
    store = open_store()
    scan_id = answered(store)
    verdict_id = store.verdict(scan_id, "melanocytic_nevus", "clinician", "Dr CANARY", "CANARY's own words").result(10)
    (kept,) = store.verdicts(scan_id)
    assert (kept.verdict_id, kept.scan_id, kept.diagnosis) == (verdict_id, scan_id, "melanocytic_nevus")
    assert (kept.given_by, kept.note, kept.source) == ("Dr CANARY", "CANARY's own words", "clinician")
    assert (kept.agreement, kept.supersedes) == ("correction", None)
    (event,) = feedback(store)
    assert (event.subject, event.sequence, event.time) == (scan_id, kept.seq, kept.given_at)
    told = event.data.model_dump(mode="json")
    del told["given_at"]
    assert told == {
        "verdict_id": verdict_id,
        "scan_id": scan_id,
        "image_sha256": kept.image_sha256,
        "diagnosis": "melanocytic_nevus",
        "source": "clinician",
        "agreement": "correction",
        "supersedes": None,
        "suggestion": {
            "primary": "melanoma",
            "melanoma_risk": 0.7,
            "suspicious": True,
            "model_version": "demo/1",
        },
        "clock_trusted": False,
    }


@pytest.mark.fault("F30")
def test_no_name_note_or_patient_is_in_any_event(open_store, answered):
    store = open_store()
    store.verdict(answered(store), "melanoma", "histopathology", "CANARY-NAME", "CANARY-NOTE").result(10)
    for row in store.outbox_due(100, fresh_after_seq=0, exclude=()):
        assert b"CANARY" not in row.event


@pytest.mark.requirement("R-REC-4")
def test_a_later_verdict_supersedes_and_keeps_the_earlier(open_store, answered):
    store = open_store()
    scan_id, other = answered(store), answered(store, "b")
    first = store.verdict(scan_id, "melanocytic_nevus", "clinician").result(10)
    elsewhere = store.verdict(other, "melanoma", "clinician").result(10)
    second = store.verdict(scan_id, "melanoma", "histopathology").result(10)
    third = store.verdict(scan_id, "melanoma", "follow_up").result(10)
    assert [(one.verdict_id, one.supersedes) for one in store.verdicts(scan_id)] == [
        (first, None),
        (second, first),
        (third, second),
    ]
    assert [(one.verdict_id, one.supersedes) for one in store.verdicts(other)] == [(elsewhere, None)]
    assert [one.sequence for one in feedback(store)] == [1, 2, 3, 4]
    assert [one.data.model_dump()["supersedes"] for one in feedback(store)] == [None, None, first, second]


def test_confirmations_count_as_corrections_do_and_the_superseded_do_not(open_store, answered, claim):
    store = open_store()
    agreed, changed, refused = answered(store), answered(store, "b"), claim(store, "c").scan_id
    store.reject(refused, Reason.BLANK, "Blank.").result(10)
    store.verdict(agreed, "melanoma", "clinician").result(10)
    store.verdict(changed, "melanoma", "clinician").result(10)
    assert store.verdict_counts() == VerdictCounts(confirmation=2, correction=0, no_suggestion=0)
    store.verdict(changed, "dermatofibroma", "histopathology").result(10)
    store.verdict(refused, "melanoma", "histopathology").result(10)
    assert store.verdict_counts() == VerdictCounts(confirmation=1, correction=1, no_suggestion=1)
    assert [one.data.model_dump()["agreement"] for one in feedback(store)] == [
        "confirmation",
        "confirmation",
        "correction",
        "no_suggestion",
    ]


@pytest.mark.requirement("R-REC-4")
def test_a_verdict_stays_with_its_scan_whatever_comes_later(open_store, answered, claim):
    store = open_store()
    scan_id = answered(store)
    store.verdict(scan_id, "melanoma", "clinician").result(10)
    answered(store, "later")
    claim(store, "a", "/scope/again.jpg")
    store.add_metadata(scan_id, {"patient_id": "LATE"}).result(10)
    store.close()
    store = open_store()
    (kept,) = store.verdicts(scan_id)
    assert (kept.scan_id, kept.suggestion) == (scan_id, feedback(store)[0].data.model_dump()["suggestion"])


@pytest.mark.parametrize("statement", ["UPDATE verdicts SET diagnosis = 'melanoma'", "DELETE FROM verdicts"])
@pytest.mark.requirement("R-REC-4")
def test_the_table_itself_refuses_to_change_a_verdict(open_store, answered, statement):
    store = open_store()
    scan_id = answered(store)
    store.verdict(scan_id, "dermatofibroma", "clinician").result(10)
    with pytest.raises(sqlite3.IntegrityError, match="a verdict is never"):
        store._writer.submit(lambda db: db.execute(statement)).result(10)
    assert [one.diagnosis for one in store.verdicts(scan_id)] == ["dermatofibroma"]


@pytest.mark.fault("F19")
def test_the_same_verdict_twice_is_one(open_store, answered):
    store = open_store()
    scan_id = answered(store)
    for _ in range(3):
        assert store.verdict(scan_id, "melanoma", "clinician", verdict_id="v-1").result(10) == "v-1"
        store.close()
        store = open_store()
    assert len(store.verdicts(scan_id)) == len(feedback(store)) == 1
    with pytest.raises(VerdictRefused, match="says something else"):
        store.verdict(scan_id, "dermatofibroma", "clinician", verdict_id="v-1").result(10)


def test_what_cannot_be_joined_is_refused_with_a_sentence(open_store, claim, answered):
    store = open_store()
    received = claim(store, "r").scan_id
    with pytest.raises(UnknownScan, match="dermascan scans"):
        store.verdict("nobody", "melanoma", "clinician").result(10)
    with pytest.raises(VerdictRefused, match="not been answered yet"):
        store.verdict(received, "melanoma", "clinician").result(10)
    with pytest.raises(VerdictRefused, match="none of melanoma, basal"):
        store.verdict(answered(store), "a mole", "clinician").result(10)
    with pytest.raises(VerdictRefused, match="none of clinician"):
        store.verdict(answered(store, "b"), "melanoma", "neighbour").result(10)
    assert feedback(store) == []


def test_every_class_of_the_product_can_be_said(open_store, answered):
    store = open_store()
    scan_id = answered(store)
    for diagnosis in CLASSES:
        store.verdict(scan_id, diagnosis, "follow_up").result(10)
    assert [one.diagnosis for one in store.verdicts(scan_id)] == list(CLASSES)


@pytest.mark.fault("F16")
@pytest.mark.parametrize(
    ("given_after", "believed"),
    [(timedelta(0), True), (timedelta(minutes=-5), False), (timedelta(days=9), False), (timedelta(days=-20000), False)],
)
def test_a_time_that_cannot_be_is_marked_and_loses_no_verdict(
    state_dir: Path, claim, answer_json, given_after, believed
):
    """Given before the scan was answered, or in the future: one of the clocks was wrong."""
    now = [datetime(2027, 1, 1, tzinfo=timezone.utc)]
    clocks = Clocks(wall=lambda: now[0], trusted=lambda: True)
    with Store.open(state_dir, "d", 64, clinic_id="c", software_version="1", clocks=clocks) as store:
        scan_id = claim(store).scan_id
        store.answer(scan_id, answer_json(scan_id), "cpu").result(10)
        given_at = (now[0] + given_after).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        now[0] += timedelta(hours=1)
        store.verdict(scan_id, "melanoma", "clinician", given_at=given_at).result(10)
        (kept,) = store.verdicts(scan_id)
        assert (kept.given_at, kept.clock_trusted) == (given_at, believed)
        assert [one.data.model_dump()["clock_trusted"] for one in feedback(store)] == [believed]


@pytest.mark.fault("F10")
def test_verdicts_survive_a_damaged_database_and_their_events_are_built_again_to_the_byte(
    open_store, answered, state_dir
):
    store = open_store()
    scan_id = answered(store)
    for diagnosis in ("dermatofibroma", "melanoma"):
        store.verdict(scan_id, diagnosis, "clinician", "Dr X", "é").result(10)
    before = {row.event for row in store.outbox_due(100, fresh_after_seq=0, exclude=())}
    kept = store.verdicts(scan_id)
    for statement in ("DELETE FROM outbox_events", "DELETE FROM outbox"):
        store._writer.submit(lambda db, statement=statement: db.execute(statement)).result(10)
    store.close()
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        db.execute("PRAGMA application_id = 1")
    store = open_store()
    assert (state_dir / "quarantine").exists()
    assert store.verdicts(scan_id) == kept
    after = store.outbox_due(100, fresh_after_seq=0, exclude=())
    assert len(after) == 3
    assert {row.event for row in after} == before
    assert [row.type == FEEDBACK.type for row in after] == [True, True, False]


@pytest.mark.fault("F10")
def test_a_verdict_outlives_the_row_of_its_scan(open_store, answered, state_dir):
    store = open_store()
    scan_id = answered(store)
    store.verdict(scan_id, "melanoma", "clinician").result(10)
    for statement in ("DELETE FROM outbox_events", "DELETE FROM outbox", "DELETE FROM sightings", "DELETE FROM scans"):
        store._writer.submit(lambda db, statement=statement: db.execute(statement)).result(10)
    store.close()
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        db.execute("PRAGMA application_id = 1")
    store = open_store()
    assert [event.subject for event in feedback(store)] == [scan_id]
    assert answered(store) == scan_id, "the capture comes again and is the same scan"
    assert len(store.verdicts(scan_id)) == 1


def test_a_withdrawn_verdict_stands_for_nothing_and_is_told(open_store, answered):
    store = open_store()
    scan_id = answered(store)
    first = store.verdict(scan_id, "melanoma", "clinician").result(10)
    taken_back = store.verdict(scan_id, None, "clinician", "Dr X", "a slip").result(10)
    assert store.verdict_counts() == VerdictCounts(confirmation=0, correction=0, no_suggestion=0)
    last = store.verdicts(scan_id)[-1]
    assert (last.verdict_id, last.diagnosis, last.agreement, last.supersedes) == (taken_back, None, "withdrawn", first)
    told = feedback(store)[-1].data.model_dump()
    assert (told["diagnosis"], told["agreement"], told["supersedes"]) == (None, "withdrawn", first)
    with pytest.raises(VerdictRefused, match="no verdict that could be withdrawn"):
        store.verdict(scan_id, None, "clinician").result(10)
    store.verdict(scan_id, "dermatofibroma", "clinician").result(10)
    assert store.verdict_counts() == VerdictCounts(confirmation=0, correction=1, no_suggestion=0)


def test_what_was_never_judged_cannot_be_withdrawn(open_store, answered):
    store = open_store()
    scan_id = answered(store)
    with pytest.raises(VerdictRefused, match="no verdict that could be withdrawn"):
        store.verdict(scan_id, None, "clinician").result(10)
    assert store.verdicts(scan_id) == []
    assert feedback(store) == []


def test_of_two_who_expect_the_same_verdict_one_is_kept(open_store, answered):
    store = open_store()
    scan_id = answered(store)
    promises = [store.verdict(scan_id, name, "clinician", expected=None) for name in ("melanoma", "dermatofibroma")]
    first = promises[0].result(10)
    with pytest.raises(VerdictOverdue):
        promises[1].result(10)
    with pytest.raises(VerdictOverdue):
        store.verdict(scan_id, "melanoma", "clinician", expected="another").result(10)
    second = store.verdict(scan_id, None, "clinician", expected=first).result(10)
    assert [one.verdict_id for one in store.verdicts(scan_id)] == [first, second]


def test_a_repeat_is_no_second_verdict_whatever_is_expected(open_store, answered):
    store = open_store()
    scan_id = answered(store)
    for _ in range(2):
        assert store.verdict(scan_id, "melanoma", "clinician", verdict_id="v1", expected=None).result(10) == "v1"
    assert len(store.verdicts(scan_id)) == 1
