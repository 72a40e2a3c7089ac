"""Broker and agent killed in a stream of events: what the cloud holds is what the device has sent (F11, F18, F19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sync.faults import agent_kills, broker_kills
from benchmarks.sync.kills import STEPS
from benchmarks.sync.scene import SAVING

QUICK = {
    "reconnect_base_s": 0.2,
    "reconnect_cap_s": 1.0,
    "acknowledge_s": 2.0,
    "acknowledge_cap_s": 4.0,
    "hold_base_s": 0.2,
    "hold_cap_s": 1.0,
}
"""The publisher's times, shorter: what a clinic's network needs minutes for is seconds here."""


@pytest.mark.fault("F18")
@pytest.mark.fault("F19")
@pytest.mark.parametrize("settings", [None, SAVING], ids=["forgetful", "saving"])
def test_a_broker_killed_in_mid_stream_loses_nothing(tmp_path: Path, settings: dict[str, str] | None) -> None:
    killed = broker_kills(tmp_path, events=300, kills=3, per_s=60.0, settings=settings, limits=QUICK, settle_s=15.0)
    assert killed.books.posted == 300
    assert killed.books.in_order, killed.books


@pytest.mark.fault("F18")
def test_with_the_brokers_word_for_delivery_the_same_deaths_lose_events(tmp_path: Path) -> None:
    """The control: were nothing lost here, the test above would prove nothing."""
    killed = broker_kills(tmp_path, events=300, kills=3, per_s=60.0, limits=QUICK, settle_s=15.0, delivery="puback")
    assert killed.books.lost > 0
    assert killed.books.waiting == 0


@pytest.mark.fault("F18")
@pytest.mark.fault("F19")
def test_an_agent_killed_at_every_step_of_an_events_way_loses_nothing(tmp_path: Path) -> None:
    killed = agent_kills(tmp_path, kills=len(STEPS), results=10, random_every=0, limits=QUICK, settle_s=10.0)
    assert set(killed.steps) == set(STEPS)
    assert killed.books.in_order, killed.books


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.fault("F18")
@pytest.mark.parametrize("settings", [None, SAVING], ids=["forgetful", "saving"])
def test_ten_deaths_of_the_broker_in_5000_events(tmp_path: Path, settings: dict[str, str] | None) -> None:
    killed = broker_kills(tmp_path, settings=settings)
    assert killed.books.posted == 5000
    assert killed.books.in_order, killed.books


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.fault("F18")
def test_a_hundred_deaths_of_the_agent(tmp_path: Path) -> None:
    killed = agent_kills(tmp_path)
    assert killed.kills == 100
    assert killed.books.in_order, killed.books
