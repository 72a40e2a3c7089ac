"""When the demonstration may say that all is well."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.demo import round_trip as module
from agent.demo.child import ChildFailed
from agent.demo.cloud_side import Heard
from agent.demo.network import Network
from agent.demo.outages import Outages
from agent.demo.round_trip import RoundTrip

GOOD = Heard(events=2, repeats=1, unreadable=0, missing=0, highest=2, gaps=())
DEVICE = SimpleNamespace(clinic_id="clinic", id="device")


@pytest.fixture
def balance(tmp_path, monkeypatch):
    """The balance of two scans, with what the outbox and the cloud say put in their mouths."""
    monkeypatch.setattr(module, "find_scan", lambda _, scan_id: SimpleNamespace(seq=int(scan_id)))

    def of(heard=GOOD, waiting=()):
        rows = [SimpleNamespace(scan_id=scan_id) for scan_id in waiting]
        monkeypatch.setattr(module, "list_outbox", lambda _, state: rows if state == "waiting" else [])

        def ask(*_):
            if isinstance(heard, Exception):
                raise heard
            return heard

        monkeypatch.setattr(module, "ask_ledger", ask)
        trip = RoundTrip(tmp_path, DEVICE, Network(), Outages(1), lambda _: None)
        for scan_id in ("1", "2"):
            trip.ended(SimpleNamespace(scan_id=scan_id, path=Path(f"{scan_id}.jpg"), answer=None, committed=0.0))
        found = trip.balance()
        trip.close()
        return found

    return of


def test_all_is_well(balance):
    found = balance()
    assert found.failure is None
    assert found.lines[0] == "cloud: 2 of 2 events acknowledged, 0 events wait"
    assert "2 events, 0 missing, 1 repeat removed" in found.lines[1]


def test_an_event_that_waits_is_a_failure(balance):
    assert balance(waiting=["2"]).failure == "1 of 2 events were not acknowledged by the cloud"


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (Heard(1, 0, 0, 0, 1, ()), "not in the cloud's ledger: 2.jpg"),
        (Heard(1, 0, 0, 1, 2, ((1, 1),)), "not in the cloud's ledger: 1.jpg"),
        (Heard(3, 0, 0, 0, 2, ()), "does not hold each event once"),
        (Heard(2, 0, 1, 0, 2, ()), "does not hold each event once"),
        (ChildFailed("there is no report"), "there is no report"),
    ],
)
def test_what_the_ledger_does_not_have_once_is_a_failure(balance, heard, words):
    assert words in balance(heard).failure


def test_a_gap_that_is_not_ours_is_none(balance):
    """A capture that was not finished when an earlier demonstration was broken off."""
    assert balance(Heard(3, 0, 0, 1, 4, ((3, 3),))).failure is None
