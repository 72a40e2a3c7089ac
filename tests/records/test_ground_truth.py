"""What the cloud said is kept once, answered once, and waits for a scan that is not there (F19)."""

from __future__ import annotations

import pytest

from agent.messages.catalogue import COMMAND, COMMAND_REPLY, GROUND_TRUTH, TELEMETRY
from agent.messages.device import CommandReply
from agent.messages.envelope import Event, parse
from agent.records import ground_truth
from agent.records.ground_truth import GroundTruthOutcome
from agent.records.store import Posting, Store


def histopathology(scan_id: str, event_id: str = "gt-1", diagnosis: str = "melanoma") -> Event:
    data = GROUND_TRUTH.model.model_validate({"scan_id": scan_id, "diagnosis": diagnosis})
    return Event(event_id, GROUND_TRUTH, "/cloud", scan_id, "2027-01-01T00:00:00Z", None, data)


def command(event_id: str = "c-1") -> Event:
    data = COMMAND.model.model_validate({"command": "sync-now"})
    return Event(event_id, COMMAND, "/cloud", "device-1", None, None, data)


def reply(event_id: str, sentence: str) -> Posting:
    data = CommandReply(command_id=event_id, command=None, outcome="done", sentence=sentence)
    return Posting(COMMAND_REPLY, "device-1", data)


def replies(store: Store) -> list[str]:
    rows = store.outbox_due(100, fresh_after_seq=0, exclude=())
    events = [parse(row.event, [COMMAND_REPLY]) for row in rows if row.type == COMMAND_REPLY.type]
    return [event.data.model_dump()["sentence"] for event in events]


@pytest.mark.fault("F19")
def test_histopathology_is_linked_once_and_answered_once(open_store, claim):
    store = open_store()
    scan_id = claim(store).scan_id
    event = histopathology(scan_id)
    for expected in (GroundTruthOutcome.LINKED, GroundTruthOutcome.REPEATED, GroundTruthOutcome.REPEATED):
        assert store.ground_truth(event, lambda outcome: reply("gt-1", outcome.value)).result(10) is expected
        store.close()
        store = open_store()
    (kept,) = store.ground_truth_of(scan_id)
    assert (kept.event_id, kept.diagnosis, kept.sent_at) == ("gt-1", "melanoma", "2027-01-01T00:00:00Z")
    assert replies(store) == ["linked"]
    store.ground_truth(histopathology(scan_id, "gt-2", "dermatofibroma")).result(10)
    assert [row.diagnosis for row in store.ground_truth_of(scan_id)] == ["melanoma", "dermatofibroma"]


def test_histopathology_of_an_unknown_scan_is_kept_and_said_to_be(open_store):
    store = open_store()
    scan_id = "of a scan that was lost"
    outcome = store.ground_truth(histopathology(scan_id), lambda found: reply("gt-1", found.value)).result(10)
    assert outcome is GroundTruthOutcome.UNKNOWN_SCAN
    assert replies(store) == ["unknown_scan"]
    assert [row.scan_id for row in store.ground_truth_of(scan_id)] == [scan_id]


@pytest.mark.fault("F19")
def test_a_command_is_noted_and_answered_once(open_store):
    store = open_store()
    postings = [reply("c-1", "done"), Posting(TELEMETRY, "device-1", {"report": "asked", "figures": {}})]
    assert store.command_seen(command(), postings).result(10) is True
    store.close()
    store = open_store()
    assert store.command_seen(command(), postings).result(10) is False
    assert store.command_seen(command("c-2")).result(10) is True
    assert replies(store) == ["done"]
    assert store.outbox_stats().waiting == 2


def test_commands_are_forgotten_when_they_are_old(open_store, monkeypatch):
    monkeypatch.setattr(ground_truth, "COMMANDS_KEPT", 3)
    store = open_store()
    assert [store.command_seen(command(str(number))).result(10) for number in range(5)] == [True] * 5
    assert [store.command_seen(command(str(number))).result(10) for number in (2, 3, 4)] == [False] * 3
    count = store._writer.submit(lambda db: db.execute("SELECT count(*) FROM commands_seen").fetchone()).result(10)
    assert count == (3,)
