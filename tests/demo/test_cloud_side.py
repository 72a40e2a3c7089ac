"""What the demonstration believes of the cloud's report."""

from dataclasses import replace

import pytest

from agent.demo.child import ChildFailed
from agent.demo.cloud_side import NOTHING, CloudSide, Heard, ask_ledger
from cloud.ledger import Ledger
from cloud.reading import read
from tests.cloud.conftest import SENDER, event

WHOLE = Heard(events=5, repeats=2, unreadable=0, missing=0, highest=5, gaps=())
TOPIC = f"dermascan/v1/{SENDER.clinic_id}/{SENDER.device_id}/results"


@pytest.mark.parametrize("number", [1, 5])
def test_what_was_heard_is_there(number):
    assert WHOLE.has(number)


def test_what_is_missing_or_beyond_the_last_is_not_there():
    heard = replace(WHOLE, events=3, missing=2, gaps=((2, 3),))
    assert [number for number in range(1, 8) if heard.has(number)] == [1, 4, 5]


def test_a_gap_that_the_report_has_no_room_for_is_no_reason_to_believe():
    heard = replace(WHOLE, events=2, missing=3, gaps=((2, 3),))
    assert heard.has(1)
    assert not heard.has(5)


def test_twice_there_shows_in_the_numbers():
    assert WHOLE.once_each
    assert not replace(WHOLE, events=6).once_each
    assert replace(WHOLE, events=6, reused=1).once_each, "the agent's database was made anew"


def test_the_report_of_a_real_ledger(tmp_path):
    ledger = Ledger(tmp_path / "cloud.db")
    ledger.commit([read(TOPIC, event(number)) for number in (1, 2, 4, 4)])
    ledger.close()
    assert ask_ledger(tmp_path / "cloud.db", SENDER.clinic_id, SENDER.device_id, "results") == Heard(
        events=3, repeats=1, unreadable=0, missing=1, highest=4, gaps=((3, 3),)
    )
    assert ask_ledger(tmp_path / "cloud.db", SENDER.clinic_id, "another", "results") == NOTHING


def test_without_a_ledger_there_is_no_report(tmp_path):
    with pytest.raises(ChildFailed, match="there is no ledger here"):
        ask_ledger(tmp_path / "cloud.db", "a", "b", "results")


def test_a_cloud_that_cannot_start_is_said_in_its_own_words(tmp_path):
    (tmp_path / "cloud.db").write_text("this is no ledger, and long enough to be looked at as a database file" * 20)
    cloud = CloudSide(tmp_path, 1)
    try:
        with pytest.raises(ChildFailed, match=r"cannot be used as the ledger|is no ledger"):
            cloud.wait_hearing()
    finally:
        cloud.stop()
