"""TensorRT and its plan: this device's, whole, proved, and nobody else's to write (F14, F15)."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from agent.doctor.checks import tensorrt as check
from agent.doctor.checks.tensorrt import CHECK
from agent.doctor.finding import Outcome
from agent.doctor.place import Place
from engines.bundle import load_bundle
from engines.tensorrt.preparation import Order, Preparation, Prepared
from tests.doctor.conftest import look

WITH_GPU = ('ladder = ["cpu"]', 'ladder = ["tensorrt", "cpu"]')
PRETENDED = Path(__file__).resolve().parents[2] / "fakes" / "pretended_gpu.py"


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The children see a pretended card and a TensorRT that is none; returns the file that hides the card."""
    hidden = tmp_path / "hidden"
    monkeypatch.setenv("PRETENDED_NO_GPU", str(hidden))
    monkeypatch.setenv("PRETENDED_PLAN", str(tmp_path / "plan"))
    (tmp_path / "plan").write_text("{}")
    script = (
        "import importlib, sys; from tests.fakes import pretended_gpu; pretended_gpu.install();"
        "import engines.tensorrt.versions as v; v.find_tensorrt = pretended_gpu.tensorrt;"
        "importlib.import_module(sys.argv[1]).main()"
    )
    monkeypatch.setattr(check, "COMMAND", (sys.executable, "-c", script, "agent.doctor.plan_facts"))
    monkeypatch.setattr(check, "_FACTORY", f"{PRETENDED}:open_backend")
    return hidden


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory, demo_bundle: Path) -> Path:
    """A cache with a plan that the agent's own child compiled and proved, once for all tests here."""
    folder = tmp_path_factory.mktemp("proved")
    (folder / "plan").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRETENDED_PLAN", str(folder / "plan"))
        order = Order(demo_bundle, load_bundle(demo_bundle).manifest_sha256, folder / "cache")
        order.cache.mkdir()
        outcome = Preparation(order, (sys.executable, str(PRETENDED))).wait(90.0, lambda *_: None)
    assert isinstance(outcome, Prepared), outcome
    return order.cache


def compiled(place: Place, proved: Path) -> Path:
    """The agent has compiled; returns the plan's folder."""
    shutil.copytree(proved, place.state_dir / "cache")
    return next((place.state_dir / "cache/plans").glob("[0-9a-f]*"))


def test_it_is_asked_only_where_it_is_used(make_place) -> None:
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)


@pytest.mark.timeout(120)  # the first test compiles
@pytest.mark.fault("F14")
def test_a_plan_that_is_ours_whole_and_proved(make_place, pretended: Path, proved: Path) -> None:
    place = make_place(WITH_GPU)
    assert "not compiled" in look(CHECK, place).one(Outcome.WARNING).sentence
    folder = compiled(place, proved)
    told = look(CHECK, place)
    assert told.ok, told.findings
    assert "right numbers on the GPU" in told.findings[-1].sentence

    record = folder / "plan.json"
    text = record.read_text()
    record.write_text(text.replace("Pretended T4", "Another card"))
    assert "another GPU" in look(CHECK, place).one(Outcome.WARNING).sentence
    record.write_text(text)

    (folder / "first-load.json").rename(folder / "gone")
    assert "has not passed its verification" in look(CHECK, place).one(Outcome.WARNING).sentence
    (folder / "gone").rename(folder / "first-load.json")

    pretended.touch()
    assert look(CHECK, place).one(Outcome.SKIPPED, "cannot be judged without a GPU")


@pytest.mark.timeout(120)
@pytest.mark.fault("F15")
def test_a_plan_that_others_may_write(make_place, pretended: Path, proved: Path) -> None:
    place = make_place(WITH_GPU)
    folder = compiled(place, proved)
    (folder / "plan.engine").chmod(0o666)
    assert "others may have written" in look(CHECK, place).one(Outcome.FAILED).sentence
    (folder / "plan.engine").chmod(0o644)
    with (folder / "plan.engine").open("ab") as file:
        file.write(b"more")
    assert "bytes" in look(CHECK, place).one(Outcome.WARNING).sentence


@pytest.mark.fault("F13")
def test_a_tensorrt_that_crashes_who_asks(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(check, "COMMAND", (sys.executable, "-c", script))
    assert "signal 11" in look(CHECK, make_place(WITH_GPU)).one(Outcome.WARNING).sentence


def test_no_tensorrt_at_all(make_place, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.dumps({"stage": "tensorrt", "fault": "TensorRT is not installed; install it"})
    monkeypatch.setattr(check, "COMMAND", (sys.executable, "-c", f"print({told!r})"))
    finding = look(CHECK, make_place(WITH_GPU)).one(Outcome.WARNING)
    assert finding.remedy == "install it"
