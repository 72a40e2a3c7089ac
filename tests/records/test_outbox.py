"""The outbox: what leaves first, what leaves never, and that nothing is lost between (F18 to F21)."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.messages.catalogue import ALERT, FEEDBACK, MESSAGES, RESULT, TELEMETRY
from agent.messages.device import Telemetry
from agent.messages.envelope import MAX_BYTES, parse
from agent.records import outbox
from agent.records.outbox import OutboxRow
from agent.records.schema import OUTBOX_RANK
from agent.records.store import Store

ALERTED = {"kind": "colour_drift", "sentence": "Look."}
FIGURES = {"report": "periodic", "figures": {"scans": 1.0}}


def row(state_dir: Path, event_id: str) -> tuple:
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        found = db.execute("SELECT state, attempts, reason FROM outbox WHERE event_id = ?", (event_id,)).fetchone()
    assert found is not None
    return found


def due(store: Store, limit: int = 100, fresh_after_seq: int = 0, exclude: tuple[str, ...] = ()) -> list[OutboxRow]:
    return store.outbox_due(limit, fresh_after_seq=fresh_after_seq, exclude=exclude)


@pytest.fixture
def answered(claim, answer_json):
    """Claim and answer a made-up capture; gives the scan's id."""

    def answer_it(store: Store, name: str = "a", **options: int) -> str:
        scan_id = claim(store, name).scan_id
        store.answer(scan_id, answer_json(scan_id, **options), "cpu").result(10)
        return scan_id

    return answer_it


def test_what_is_posted_is_a_numbered_event(open_store):
    store = open_store()
    ids = [store.post(ALERT, "scope-1", ALERTED).result(10), store.post(TELEMETRY, "device-1", FIGURES).result(10)]
    ids.append(store.post(TELEMETRY, "device-1", Telemetry(report="asked", figures={})).result(10))
    rows = {one.event_id: one for one in due(store)}
    assert set(rows) == set(ids)
    events = [parse(rows[event_id].event, MESSAGES) for event_id in ids]
    assert [event.sequence for event in events] == [1, 2, 3], "one topic, one series of numbers"
    assert [event.id for event in events] == ids
    assert [event.subject for event in events] == ["scope-1", "device-1", "device-1"]


@pytest.mark.fault("F30")
def test_nothing_is_posted_that_its_schema_does_not_name(open_store):
    store = open_store()
    with pytest.raises(ValidationError, match="patient_id"):
        store.post(ALERT, "scope-1", ALERTED | {"patient_id": "CANARY-PATIENT"})
    for message in (RESULT, FEEDBACK):
        with pytest.raises(ValueError, match="not posted by itself"):
            store.post(message, "x", {})
    assert due(store) == []


@pytest.mark.fault("F20")
def test_verdicts_and_what_is_fresh_leave_before_what_is_old_and_telemetry(open_store, answered):
    store = open_store()
    old = [answered(store, "old-1"), answered(store, "old-2")]
    store.post(TELEMETRY, "device-1", FIGURES).result(10)
    connected = store.outbox_stats().last_seq
    assert connected == 3
    fresh = answered(store, "fresh")
    alert = store.post(ALERT, "scope-1", ALERTED).result(10)
    store.verdict(old[1], "melanoma", "clinician").result(10)
    order = due(store, fresh_after_seq=connected)
    subjects = [json.loads(one.event)["subject"] for one in order]
    assert subjects == [old[1], fresh, "scope-1", *old, "device-1"]
    assert order[0].type == FEEDBACK.type
    assert order[2].event_id == alert
    assert due(store, 3, connected) == order[:3]
    assert due(store, 2, connected, (order[0].event_id, order[2].event_id)) == [order[1], order[3]]
    assert [one.seq for one in due(store, fresh_after_seq=0)] == [6, 1, 2, 4, 5, 3]


def test_the_order_agrees_with_the_catalogue():
    """The database has an order of its own, for types that it does not know; for ours it must be the same."""
    ranking = f"SELECT {OUTBOX_RANK} FROM (SELECT ? AS type)"  # noqa: S608
    with closing(sqlite3.connect(":memory:")) as db:
        rank = {one: db.execute(ranking, (one.type,)).fetchone()[0] for one in MESSAGES}
        unknown = db.execute(ranking, ("org.dermascan.later.v7",)).fetchone()[0]
    ordered = sorted((RESULT, FEEDBACK, ALERT, TELEMETRY), key=lambda one: one.priority)
    assert [rank[one] for one in ordered] == sorted(rank[one] for one in ordered)
    assert (rank[FEEDBACK], rank[TELEMETRY]) == (outbox.FEEDBACK_RANK, outbox.TELEMETRY_RANK)
    assert unknown == outbox.USUAL_RANK


@pytest.mark.fault("F20")
def test_a_backlog_of_100_000_rows_does_not_slow_the_choice(open_store, answered):
    store = open_store()
    insert = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO outbox"
        " (event_id, scan_id, type, topic, created_at) SELECT 'old-' || i, NULL, CASE i % 3 WHEN 0 THEN"
        " 'org.dermascan.telemetry.v1' ELSE 'org.dermascan.later.v1' END, 'x', 't' FROM n"
    )
    store._writer.submit(lambda db: db.execute(insert).fetchall()).result(25)
    insert = "INSERT INTO outbox_events SELECT seq, zeroblob(200) FROM outbox"
    store._writer.submit(lambda db: db.execute(insert).fetchall()).result(25)
    connected = store.outbox_stats().last_seq
    scan_id = answered(store)
    store.verdict(scan_id, "melanoma", "clinician").result(10)
    in_flight = tuple(f"old-{number}" for number in range(1, 101))
    took = []
    for _ in range(9):
        started = time.perf_counter()
        order = due(store, 100, connected, in_flight)
        took.append(time.perf_counter() - started)
    assert [json.loads(one.event)["subject"] for one in order[:2]] == [scan_id, scan_id]
    assert [one.seq for one in order[2:5]] == [101, 103, 104]
    assert min(took) < 0.05, took

    def plan_of(statement: str, *values: object) -> list[str]:
        explain = "EXPLAIN QUERY PLAN " + statement
        steps = store._writer.submit(lambda db: db.execute(explain, values).fetchall(), writes=False).result(10)
        return [step[3] for step in steps]

    plan = plan_of(outbox._DUE, 1, 0, connected, "[]", 100)
    assert any("USING INDEX outbox_due (<expr>=? AND rowid>? AND rowid<?)" in step for step in plan), plan
    assert not any("TEMP B-TREE FOR ORDER" in step for step in plan), plan
    counting = plan_of(outbox._WAITING_BY_TOPIC)
    assert any("COVERING INDEX" in step for step in counting), f"it reads 100,000 events to count them: {counting}"
    assert store.outbox_stats().waiting == 100_002


@pytest.mark.fault("F18")
def test_only_the_clouds_word_takes_a_row_out(open_store, answered, state_dir):
    store = open_store()
    for name in "abc":
        answered(store, name)
    ids = [one.event_id for one in due(store)]
    store.outbox_attempted(ids[:2]).result(10)
    store.close()
    store = open_store()
    assert [one.event_id for one in due(store)] == ids, "after a crash or a stop all goes again"
    assert [one.attempts for one in due(store)] == [1, 1, 0]
    assert store.outbox_acknowledge([ids[0], "of another life"]).result(10) == 1
    assert store.outbox_acknowledge(ids[:2]).result(10) == 1, "said twice, counted once"
    assert [one.event_id for one in due(store)] == ids[2:]
    assert row(state_dir, ids[0]) == ("acknowledged", 1, None)


@pytest.mark.fault("F21")
def test_a_row_given_up_holds_nothing_up_and_can_be_tried_again(open_store, answered, state_dir):
    store = open_store()
    for name in "abc":
        answered(store, name)
    ids = [one.event_id for one in due(store)]
    store.outbox_attempted([ids[1]]).result(10)
    store.outbox_dead(ids[1], "the broker said 0x99").result(10)
    assert [one.event_id for one in due(store)] == [ids[0], ids[2]]
    assert row(state_dir, ids[1]) == ("dead", 1, "the broker said 0x99")
    assert (store.outbox_retry("none").result(10), store.outbox_retry(ids[1]).result(10)) == (0, 1)
    assert row(state_dir, ids[1]) == ("waiting", 0, None)
    for event_id in ids:
        store.outbox_dead(event_id, "x").result(10)
    assert store.outbox_acknowledge([ids[0]]).result(10) == 1, "the cloud has it after all"
    store.outbox_dead(ids[0], "too late").result(10)
    assert store.outbox_retry(None).result(10) == 2
    stats = store.outbox_stats()
    assert (stats.waiting, stats.acknowledged, stats.dead, stats.last_seq) == (2, 1, 0, 3)
    assert stats.waiting_by_topic == {"results": 2}
    assert stats.oldest_waiting_at == due(store)[0].created_at


@pytest.mark.fault("F21")
def test_an_event_too_large_for_brokers_is_dead_at_once_with_its_reason(open_store, answered, state_dir):
    store = open_store()
    answered(store, "large", attention_bytes=MAX_BYTES)
    small = answered(store, "small")
    (waits,) = due(store)
    assert json.loads(waits.event)["subject"] == small
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        event_id, reason, size = db.execute(
            "SELECT event_id, reason, length(event) FROM outbox JOIN outbox_events USING (seq) WHERE state = 'dead'"
        ).fetchone()
    assert reason == f"it has {size} bytes, and brokers take no more than {MAX_BYTES}"
    assert store.counts().answered == 2, "the answer itself is none the worse"
    assert store.outbox_retry(event_id).result(10) == 1
    assert {one.event_id for one in due(store)} == {waits.event_id, event_id}


def test_the_limit_is_the_last_byte_that_fits(open_store, state_dir):
    store = open_store()

    def put(db, size: int) -> None:
        outbox.enqueue(
            db, event_id=str(size), scan_id=None, event_type="t", topic="t", event=b"x" * size, created_at="t"
        )

    for size in (MAX_BYTES, MAX_BYTES + 1):
        store._writer.submit(lambda db, size=size: put(db, size)).result(10)
    assert row(state_dir, str(MAX_BYTES))[0] == "waiting"
    assert row(state_dir, str(MAX_BYTES + 1))[0] == "dead"


def test_whoever_sends_is_woken_after_the_commit_and_only_then(open_store, answered, state_dir):
    store = open_store()
    woken: list[int] = []
    bell = threading.Event()

    def listen() -> None:
        with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
            woken.append(db.execute("SELECT count(*) FROM outbox WHERE state = 'waiting'").fetchone()[0])
        bell.set()

    store.on_posted = listen
    scan_id = answered(store)
    assert bell.wait(10)
    store.verdict(scan_id, "melanoma", "clinician").result(10)
    store.post(ALERT, "scope-1", ALERTED).result(10)
    store.keep_colour_watch("scope-1", "{}", ALERTED).result(10)
    store.close()
    assert woken == [1, 2, 3, 4]


def test_nobody_is_woken_for_what_was_not_committed(open_store):
    store = open_store()
    woken: list[int] = []
    store.on_posted = lambda: woken.append(1)
    with pytest.raises(Exception, match="not in the database"):
        store.verdict("nobody", "melanoma", "clinician").result(10)
    store.close()
    assert woken == []
