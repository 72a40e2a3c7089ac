"""The model: its signature and files, and the golden image on this machine."""

from __future__ import annotations

import pytest

from agent.doctor.checks.model import CHECK
from agent.doctor.finding import Outcome
from engines.bundle import load_bundle
from engines.installed.activation import Activation, Committed, Failure, Stage
from engines.installed.catalogue import identity
from engines.installed.ledger import Ledger
from tests.doctor.conftest import look
from tests.fakes.bundles import copy_bundle, new_version, wrong_golden


def test_a_good_model_gives_the_golden_numbers(make_place) -> None:
    told = look(CHECK, make_place())
    assert told.ok
    assert "right numbers" in told.findings[-1].sentence


@pytest.mark.fault("F12")
def test_wrong_numbers_are_found(make_place, demo_bundle, tmp_path) -> None:
    bundle = copy_bundle(demo_bundle, tmp_path / "bundle", wrong_golden)
    finding = look(CHECK, make_place((str(demo_bundle), str(bundle)))).one(Outcome.FAILED)
    assert "golden image" in finding.sentence


def test_a_changed_file_is_found(make_place, demo_bundle, tmp_path) -> None:
    bundle = copy_bundle(demo_bundle, tmp_path / "bundle")
    model = bundle / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.unlink()
    model.write_bytes(data)
    finding = look(CHECK, make_place((str(demo_bundle), str(bundle)))).one(Outcome.FAILED)
    assert "changed or damaged" in finding.sentence
    assert finding.remedy == "install the bundle again"


def test_a_key_that_is_not_trusted(make_place) -> None:
    told = look(CHECK, make_place(("require_trusted = false", "require_trusted = true")))
    assert "anybody can sign with" in told.one(Outcome.FAILED).sentence


@pytest.mark.fault("F27")
def test_a_model_that_was_given_up(make_place, demo_bundle, tmp_path) -> None:
    models = tmp_path / "models"
    good = identity(load_bundle(new_version(demo_bundle, models, "1.0.0")))
    bad = identity(load_bundle(new_version(demo_bundle, models, "2.0.0", wrong_golden)))
    failure = Failure(installed=bad, stage=Stage.PROVISIONAL, reason="it computes wrong numbers", at="2026")
    committed = Committed(installed=good, verified_by="", at="2026")
    Ledger(models).change(lambda _: Activation(committed=committed, failures=(failure,)))
    told = look(CHECK, make_place((f'bundle = "{demo_bundle}"', 'models = "models"')))
    assert "demo/2.0.0 was tried and given up" in told.one(Outcome.WARNING).sentence
    assert told.one(Outcome.OK, "demo/1.0.0 is whole")


def test_nothing_was_ever_activated(make_place, demo_bundle, tmp_path) -> None:
    (tmp_path / "models").mkdir()
    place = make_place((f'bundle = "{demo_bundle}"', 'models = "models"'))
    assert "dermascan engine activate" in look(CHECK, place).one(Outcome.FAILED, "no bundle is active").sentence + str(
        look(CHECK, place).findings[0].remedy
    )
