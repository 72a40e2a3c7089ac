"""The cloud rung: the golden image comes back with the right numbers, or it does not (F26)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.doctor.checks import cloud as check
from agent.doctor.checks.cloud import CHECK
from agent.doctor.finding import Outcome
from engines.proven import WorkerSettings
from tests.doctor.conftest import look
from tests.fakes.stand_in_cloud import Mode, StandInCloud, stand_in

WORD = "a-bearer-token"


@pytest.fixture
def cloud(tmp_path: Path, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check, "HEALTH", WorkerSettings(start_timeout_s=8.0, golden_timeout_s=8.0))
    (tmp_path / "token").write_text(WORD)
    (tmp_path / "pseudonym.key").write_bytes(os.urandom(32))
    with stand_in(tmp_path / "cloud", demo_bundle, token=WORD) as server:
        yield server


def settings(server: StandInCloud, ladder: str = '["cloud", "cpu"]') -> tuple[tuple[str, str], ...]:
    section = f'[cloud]\nurl = "{server.url}"\nca = "{server.ca.cert}"\ntoken_file = "token"\n'
    privacy = '\n[privacy]\npseudonym_key_file = "pseudonym.key"\n\n[store]'
    return ("[store]", section + privacy), ('ladder = ["cpu"]', f"ladder = {ladder}")


def test_it_is_asked_only_where_it_is_used(make_place, cloud: StandInCloud) -> None:
    assert look(CHECK, make_place(settings(cloud)[0])).one(Outcome.SKIPPED)
    assert cloud.connections == 0


def test_a_good_cloud_is_sent_the_golden_image_and_nobody(make_place, cloud: StandInCloud) -> None:
    assert look(CHECK, make_place(*settings(cloud))).ok
    assert len(cloud.asked) == 1
    assert cloud.asked[0].body["patient_id"] is None


@pytest.mark.fault("F26")
def test_one_that_refuses_and_one_that_answers_wrongly(make_place, cloud: StandInCloud) -> None:
    def wrong(answer) -> None:
        classes = answer["diagnosis"]["all_classes"]
        names = list(classes)
        classes[names[0]], classes[names[1]] = classes[names[1]], classes[names[0]]

    cloud.be(Mode(refuse=True))
    place = make_place(*settings(cloud))
    assert "could not be reached" in look(CHECK, place).one(Outcome.WARNING).sentence
    alone = make_place(*settings(cloud, '["cloud"]'))
    assert look(CHECK, alone).one(Outcome.FAILED, "Nothing else may answer")
    cloud.be(Mode(change=wrong))
    assert look(CHECK, place).one(Outcome.WARNING)
