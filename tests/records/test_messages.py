from __future__ import annotations

import json
import re
import sqlite3
import uuid
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from agent.intake.capture import FileStamp
from agent.intake.reasons import Reason
from agent.messages.catalogue import RESULT
from agent.messages.envelope import Sender
from agent.records.messages import event_id_of, rejected_data, result_event, scan_id_of


def check_cloudevent(event: dict[str, object]) -> None:
    """CloudEvents 1.0, section "Context Attributes": the required ones, and the rules of those that are optional."""
    assert event["specversion"] == "1.0"
    for name in ("id", "source", "type"):
        assert isinstance(event[name], str)
        assert event[name]
    assert re.fullmatch(r"[A-Za-z0-9/_.~%-]+", str(event["source"])), "source is a URI reference"
    assert str(event["time"]).endswith("Z")
    assert datetime.fromisoformat(str(event["time"]).replace("Z", "+00:00")).tzinfo is not None
    assert event["datacontenttype"] == "application/json"
    assert event["subject"]
    attributes = set(event) - {"data"}
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in attributes), "attribute names: lower case, digits"
    assert isinstance(event["sequence"], str)


@pytest.fixture
def events(open_store, claim, answer_json, state_dir):
    """The outbox after an answer and a refusal: [(event_id, scan_id, type, topic, bytes)]."""
    store = open_store()
    answered, rejected = claim(store, "a", "/scope/CANARY-NAME a.jpg"), claim(store, "b", "/scope/CANARY-NAME b.jpg")
    store.answer(answered.scan_id, answer_json(answered.scan_id), "cpu", {"patient_id": "CANARY-PATIENT"}).result(10)
    store.reject(rejected.scan_id, Reason.BLANK, "The picture is blank.").result(10)
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as connection:
        return connection.execute(
            "SELECT event_id, scan_id, type, topic, event FROM outbox JOIN outbox_events USING (seq) ORDER BY seq"
        ).fetchall()


def test_each_event_is_a_cloudevent(events):
    assert len(events) == 2
    for seq, (event_id, scan_id, kind, topic, event) in enumerate(events, 1):
        content = json.loads(event)
        check_cloudevent(content)
        assert (content["id"], content["subject"], content["type"]) == (event_id, scan_id, kind)
        assert (kind, topic) == ("org.dermascan.result.v1", "results")
        assert content["source"] == "/dermascan/clinic-1/device-1"
        assert int(content["sequence"]) == seq
        assert event == json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert json.loads(events[0][4])["sequence"] < json.loads(events[1][4])["sequence"], "ordered as text"


def test_what_the_events_say(events, answer_json):
    answered, rejected = (json.loads(row[4])["data"] for row in events)
    wanted = json.loads(answer_json(answered["scan_id"])) | {"state": "answered"}
    del wanted["patient_id"]
    assert answered == wanted
    assert (rejected["state"], rejected["reason"]) == ("rejected", "blank")
    assert rejected["sentence"] == "The picture is blank."
    assert {"scan_id", "image_sha256", "clinic_id", "device_id", "dermoscope_id", "software_version"} <= set(rejected)


@pytest.mark.fault("F30")
def test_no_patient_and_no_file_name_leaves(events):
    assert all(b"CANARY" not in row[4] for row in events)
    assert all(b"patient_id" not in row[4] for row in events)


@pytest.mark.fault("F19")
def test_building_an_event_twice_gives_the_same_bytes_and_id():
    sender = Sender("clinic 1", "dév", "1")
    data = rejected_data(
        sender,
        scan_id="s",
        image_sha256=None,
        dermoscope_id="d",
        reason="blank",
        sentence="Blank.",
        received_at="2026-01-01T00:00:00Z",
        finished_at="2026-01-01T00:00:01Z",
        clock_trusted=False,
    )
    backwards = dict(reversed(list(data.items())))
    first = result_event(sender, "s", 3, "2026-01-01T00:00:01Z", data)
    assert first == result_event(sender, "s", 3, "2026-01-01T00:00:01Z", backwards)
    check_cloudevent(json.loads(first))
    assert uuid.UUID(event_id_of("s", RESULT.type)).version == 5
    assert event_id_of("s", RESULT.type) != event_id_of("t", RESULT.type)
    assert scan_id_of("a", "sha256:1") != scan_id_of("b", "sha256:1")


def test_an_entry_without_content_has_no_hash(open_store, state_dir):
    store = open_store()
    scan = store.claim("stat:1", None, Path("/scope/pipe.jpg"), "scope-1", FileStamp(1, 2, 3, 4, 5)).result(10)
    store.reject(scan.scan_id, Reason.NOT_A_FILE, "This is no picture.").result(10)
    assert json.loads(store.result_bytes(scan.scan_id))["image_sha256"] is None
