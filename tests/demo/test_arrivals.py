"""What the demonstration says of each event's way, with a real store and a cable that only remembers."""

import hashlib
import queue
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.analysts import Finished
from agent.answer.scan import ScanState
from agent.demo.arrivals import Arrivals
from agent.demo.outages import Outages
from agent.demo.table import Acknowledged, Word
from agent.intake.capture import FileStamp
from agent.intake.reasons import Reason
from agent.records.store import Store


class Cable:
    pulled = False

    def pull(self):
        self.pulled = True

    def put_back(self):
        self.pulled = False


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path, "device-1", 256, clinic_id="clinic-1", software_version="0")
    yield store
    store.close()


@pytest.fixture
def cable():
    return Cable()


@pytest.fixture
def news():
    return queue.Queue()


@pytest.fixture
def arrivals(tmp_path, store, cable, news):
    arrivals = Arrivals(tmp_path, cable, Outages(8), news.put)
    arrivals.start()
    yield arrivals
    arrivals.stop()


def finish(store, name, *, answered=True):
    """A capture that ended, with its event in the outbox; whether it was answered matters to the outages only."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    stamp = FileStamp(1, 2, 3, 4, 5)
    scan_id = store.claim(f"sha256:{sha256}", sha256, Path(f"/in/{name}"), "scope-1", stamp).result(10).scan_id
    store.reject(scan_id, Reason.NOT_A_PICTURE, "It is none.").result(10)
    answer = SimpleNamespace() if answered else None
    state = ScanState.ANSWERED if answered else ScanState.REJECTED
    return Finished(scan_id, state, Path(f"/in/{name}"), "scope-1", answer, None, None, time.monotonic())


def acknowledge_all(store):
    ids = [row.event_id for row in store.outbox_due(100, fresh_after_seq=0)]
    store.outbox_acknowledge(ids).result(10)


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the awaited condition did not come"
        threading.Event().wait(0.01)


def test_an_acknowledgement_is_told_with_its_time(store, arrivals, news):
    arrivals.ended(finish(store, "a.jpg"))
    assert not arrivals.settled
    acknowledge_all(store)
    told = news.get(timeout=10)
    assert isinstance(told, Acknowledged)
    assert told.name == "a.jpg"
    assert 0.0 < told.after_s < 10.0
    until(lambda: arrivals.settled)


def test_a_given_up_event_is_not_called_acknowledged(store, arrivals, news):
    arrivals.ended(finish(store, "a.jpg"))
    (row,) = store.outbox_due(1, fresh_after_seq=0)
    store.outbox_dead(row.event_id, "too large").result(10)
    until(lambda: arrivals.settled)
    assert news.empty()


def test_an_outage_from_the_pull_to_the_last_acknowledgement(store, cable, arrivals, news):
    arrivals.ended(finish(store, "1.jpg"))
    acknowledge_all(store)
    assert isinstance(news.get(timeout=10), Acknowledged)
    arrivals.ended(finish(store, "2.jpg"))
    assert cable.pulled  # at the second answer, at once
    assert news.get(timeout=10) == Word("network pulled: answers go on, 1 event waits", pulled=True)
    arrivals.ended(finish(store, "spoilt.jpg", answered=False))
    assert news.get(timeout=10) == Word("network pulled: answers go on, 2 events wait", pulled=True)
    arrivals.ended(finish(store, "3.jpg"))
    assert news.get(timeout=10) == Word("network pulled: answers go on, 3 events wait", pulled=True)
    arrivals.ended(finish(store, "4.jpg"))
    assert news.get(timeout=10) == Word("network back: 4 events wait, the agent reconnects", pulled=False)
    assert not cable.pulled
    assert not arrivals.settled
    acknowledge_all(store)
    told = [news.get(timeout=10) for _ in range(5)]
    assert {event.name for event in told[:4]} == {"2.jpg", "spoilt.jpg", "3.jpg", "4.jpg"}
    assert told[4].text.startswith("network back: all 4 acknowledged after ")
    until(lambda: arrivals.settled)


def test_the_end_puts_the_cable_back(store, cable, arrivals):
    cable.pull()
    assert not arrivals.settled
    arrivals.want_network()
    until(lambda: not cable.pulled)


def test_what_an_earlier_demonstration_left_is_waited_for(store, tmp_path, arrivals):
    finish(store, "earlier.jpg")
    until(lambda: arrivals.waiting == 1)
    assert not arrivals.settled
    acknowledge_all(store)
    until(lambda: arrivals.settled)
