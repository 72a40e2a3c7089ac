"""The outbox: what was given up, what waits too long, what could not be done (F18, F21)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from agent.doctor.checks.outbox import CHECK
from agent.doctor.finding import Outcome
from agent.messages.catalogue import ALERT
from agent.messages.examples import EXAMPLES
from tests.doctor.conftest import look

MQTT = ("[store]", '[mqtt]\nhost = "127.0.0.1"\n\n[store]')


@pytest.mark.fault("F21")
def test_dead_letters_and_what_waits(make_place, make_store) -> None:
    now = datetime.now(timezone.utc)
    place = make_place(MQTT, now=now)
    assert look(CHECK, place).one(Outcome.SKIPPED)
    store = make_store()
    assert look(CHECK, place).ok
    event_id = store.post(ALERT, "device-1", EXAMPLES[ALERT][0].event["data"]).result()
    assert "1 events wait" in look(CHECK, place).one(Outcome.OK).sentence

    late = look(CHECK, make_place(MQTT, now=now + timedelta(days=2.9)))
    assert "the oldest for 2 days" in late.one(Outcome.WARNING).sentence
    assert look(CHECK, make_place(now=now + timedelta(days=3))).ok, "without a broker it may wait"

    store.outbox_dead(event_id, "the broker takes no more than 1024 bytes").result()
    finding = look(CHECK, place).one(Outcome.WARNING, "1 events were given up")
    assert "the broker takes no more" in finding.sentence
    assert "dermascan queue retry all" in finding.remedy


def test_orders_that_were_refused(make_place, make_store) -> None:
    make_store()
    place = make_place()
    folder = place.state_dir / "spool/refused"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text("{}")
    assert look(CHECK, place).one(Outcome.WARNING, "could not be done")
