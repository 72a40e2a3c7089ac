"""What the running agent puts into its outbox is what the message definitions say."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.messages.catalogue import MESSAGES, RESULT
from agent.messages.envelope import MAX_BYTES, parse
from agent.messages.results import Answered, Rejected, Result
from tests.agent.test_daemon import picture
from tests.faults.running import running


@pytest.mark.fault("F30")
def test_answers_and_refusals_are_events_of_the_catalogue(write_config: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "scope-1"
    with running(write_config()) as (_, commits):
        (folder / "good.json").write_text('{"patient_id": "CANARY-PATIENT"}')
        (folder / "good.png").write_bytes(picture())
        (folder / "CANARY-NAME.png").write_bytes(bytes(cv2.imencode(".png", np.zeros((300, 300, 3), np.uint8))[1]))
        commits.wait(lambda by_name: len(by_name) == 2)
    with closing(sqlite3.connect(tmp_path / "state" / "dermascan.db")) as db:
        payloads = [
            row[0] for row in db.execute("SELECT event FROM outbox JOIN outbox_events USING (seq) ORDER BY seq")
        ]
    events = [parse(payload, MESSAGES) for payload in payloads]
    assert {event.message for event in events} == {RESULT}
    ends = [event.data.root for event in events if isinstance(event.data, Result)]
    assert sorted(type(end).__name__ for end in ends) == [Answered.__name__, Rejected.__name__]
    assert all(len(payload) < MAX_BYTES for payload in payloads)
    assert not any(b"CANARY" in payload for payload in payloads)
