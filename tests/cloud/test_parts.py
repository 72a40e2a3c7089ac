"""The parts that need no broker: numbers, acknowledgements, reading, the ledger's file."""

from __future__ import annotations

import json
import sqlite3
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages.catalogue import MESSAGES
from agent.messages.examples import EXAMPLES
from cloud.acks import MAX_WAIT_S, AckBatches
from cloud.ledger import MAX_MALFORMED, Ledger, LedgerError
from cloud.ranges import add, gaps
from cloud.reading import Device, read
from cloud.report import report
from tests.cloud.conftest import SENDER, event, rows

TOPIC = "dermascan/v1/clinic-a/clinic-a-room-2/results"


@given(st.lists(st.lists(st.integers(1, 60), max_size=8), max_size=8))
def test_ranges_are_the_set_of_the_numbers(batches):
    heard, known = [], set()
    for batch in batches:
        before = len(known)
        heard, repeated = add(heard, batch)
        known |= set(batch)
        assert repeated == len(batch) - (len(known) - before)
    assert {number for first, last in heard for number in range(first, last + 1)} == known
    assert all(one[1] + 1 < other[0] for one, other in pairwise(heard)), "they do not touch"
    missing = {number for first, last in gaps(heard) for number in range(first, last + 1)}
    assert missing == set(range(1, max(known, default=0) + 1)) - known


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_acknowledgements_wait_a_moment_and_no_longer():
    clock = Clock()
    batches = AckBatches(clock=clock)
    assert batches.wait_s() is None
    one, other = Device("c", "one"), Device("c", "other")
    batches.add([(one, "a"), (other, "b")])
    assert batches.wait_s() == pytest.approx(MAX_WAIT_S)
    assert batches.due() == []
    clock.now += MAX_WAIT_S
    batches.add([(one, "c")])
    assert batches.wait_s() == 0.0
    assert [(message.topic, json.loads(message.payload)["data"]["ids"]) for message in batches.due()] == [
        ("dermascan/v1/c/one/ack", ["a", "c"]),
        ("dermascan/v1/c/other/ack", ["b"]),
    ]
    assert batches.wait_s() is None


def test_a_full_acknowledgement_goes_at_once():
    batches = AckBatches(clock=Clock())
    batches.add([(Device("c", "d"), str(number)) for number in range(1203)])
    assert batches.wait_s() == 0.0
    assert [message.ids for message in batches.due()] == [500, 500]
    assert batches.due() == []
    assert [message.ids for message in batches.due(everything=True)] == [203]


def test_the_examples_are_read():
    for message in MESSAGES:
        for example in EXAMPLES[message]:
            topic = f"dermascan/v1/clinic-a/clinic-a-room-2/{message.topic}"
            heard = read(topic, json.dumps(example.event).encode())
            assert (heard.event is not None) == (message.direction.value == "up"), heard.reason


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_comes_has_a_reason(payload):
    heard = read(TOPIC, payload)
    assert heard.event is None
    assert heard.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(event(1)))), json_values)
def test_a_damaged_event_is_stored_or_has_a_reason(tmp_path_factory, key, value):
    content = json.loads(event(1)) | {key: value}
    heard = read(TOPIC, json.dumps(content).encode())
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
    try:
        committed = ledger.commit([heard])
    finally:
        ledger.close()
    assert committed.new + committed.malformed == 1


def test_an_unreadable_message_is_kept_once_and_so_many_at_most(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    first = read(TOPIC, b"rubbish")
    ledger.commit([first, first])
    ledger.commit([read(TOPIC, b"rubbish %d" % number) for number in range(MAX_MALFORMED + 5)])
    kept_not = read(TOPIC, json.dumps({"id": "one-too-many"}).encode())
    assert ledger.commit([kept_not]).acknowledge == (), "what is not kept is not acknowledged"
    ledger.close()
    assert rows(tmp_path / "ledger.db", "SELECT count(*) FROM malformed") == [(MAX_MALFORMED,)]
    assert report(tmp_path / "ledger.db")[0].streams[0].malformed == MAX_MALFORMED + 8


def test_numbers_that_begin_anew_are_told(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.commit([read(TOPIC, event(number)) for number in (1, 2, 3)])
    ledger.commit([read(TOPIC, event(number, event_id=f"new-{number}")) for number in (1, 2)])
    ledger.close()
    (stream,) = report(tmp_path / "ledger.db")[0].streams
    assert (stream.heard, stream.reused, stream.missing) == (5, 2, 0)


def test_a_crash_in_a_commit_leaves_nothing_of_it(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger.db")
    monkeypatch.setattr(Ledger, "_number", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ledger.commit([read(TOPIC, event(1))])
    monkeypatch.undo()
    assert ledger.commit([read(TOPIC, event(1))]).new == 1
    ledger.close()


def test_a_file_of_another_kind_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (a)")
    database.close()
    with pytest.raises(LedgerError, match="is no ledger"):
        Ledger(path)
    with pytest.raises(LedgerError, match="is no ledger"):
        report(path)
    (tmp_path / "text").write_text("this is no database, whatever its name says" * 100)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(tmp_path / "text")
    with pytest.raises(LedgerError, match="there is no ledger"):
        report(tmp_path / "none.db")


def test_an_event_of_another_device_is_not_believed():
    heard = read("dermascan/v1/clinic-a/another/results", event(1))
    assert heard.event is None
    assert "came on a topic of" in (heard.reason or "")
    assert heard.device == Device("clinic-a", "another")
    assert SENDER.device_id != "another"
