"""The model: its signature and files, and the golden image on this machine."""

from __future__ import annotations

import pytest

from agent.doctor.checks.model import CHECK
from agent.doctor.finding import Outcome
from engines.installed.ledger import Ledger
from engines.installed.steps import give_up, stage
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
