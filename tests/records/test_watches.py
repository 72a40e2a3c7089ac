"""What is kept and told about a dermoscope rather than a scan."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from tests.records.test_messages import check_cloudevent

DRIFT = {"kind": "colour_drift", "sentence": "The colours of scope-1 have changed.", "shift": 5.5}


def test_a_watch_comes_back_as_it_was_kept(open_store) -> None:
    store = open_store()
    assert store.colour_watch("scope-1") is None
    store.keep_colour_watch("scope-1", '{"n": 1}').result(10)
    store.keep_colour_watch("scope-2", '{"n": 9}').result(10)
    store.keep_colour_watch("scope-1", '{"n": 2}').result(10)
    store.close()
    again = open_store()
    assert again.colour_watch("scope-1") == '{"n": 2}'
    assert again.colour_watch("scope-2") == '{"n": 9}'


def test_alerts_are_events_numbered_without_gaps(open_store, state_dir) -> None:
    store = open_store()
    store.keep_colour_watch("scope-1", "{}").result(10)
    for _ in range(3):
        store.keep_colour_watch("scope-1", "{}", DRIFT).result(10)
    with closing(sqlite3.connect(state_dir / "dermascan.db")) as db:
        rows = db.execute(
            "SELECT event_id, scan_id, type, topic, event, state"
            " FROM outbox JOIN outbox_events USING (seq) ORDER BY seq"
        ).fetchall()
    assert len({row[0] for row in rows}) == 3
    for number, (event_id, scan_id, kind, topic, event, state) in enumerate(rows, 1):
        content = json.loads(event)
        check_cloudevent(content)
        assert (content["id"], content["type"], content["subject"]) == (event_id, kind, "scope-1")
        assert (scan_id, kind, topic, state) == (None, "org.dermascan.alert.v1", "telemetry", "waiting")
        assert int(content["sequence"]) == number
        assert content["data"] == DRIFT
