"""Killed at every file operation of every step: the old bundle or the new one, whole, and never a mixture (F27)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.installed.activation import commit
from engines.installed.ledger import Ledger
from engines.installed.steps import Order, activate
from engines.trust.verifying import DEMO_TRUST
from tests.fakes.bundles import small_bundle

pytestmark = pytest.mark.fault("F27")

OLDER, OLD, NEW = "demo/1.0.0", "demo/1.1.0", "demo/2.0.0"


@pytest.fixture
def template(tmp_path: Path, demo_bundle: Path) -> Path:
    """A models folder with an active bundle and one before it."""
    models = tmp_path / "template"
    for label in (OLDER, OLD):
        small_bundle(demo_bundle, models / label, model=label.encode())
        bring_in(models, label)
        committed(models)
    return models


def bring_in(models: Path, which: str) -> None:
    activate(Ledger(models), Order(which, DEMO_TRUST), test=lambda _: None)


def committed(models: Path) -> None:
    ledger = Ledger(models)
    provisional = ledger.read().provisional
    assert provisional is not None
    ledger.change(lambda state: commit(state, provisional, "now"))


def die_everywhere(tmp_path: Path, template: Path, action: str, new: Path | str = "") -> list[dict[str, Any]]:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, str(Path(__file__).with_name("dying.py")), action, str(tmp_path / "models"), str(new)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(template)], env=environment, capture_output=True, text=True, timeout=28, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["died"] for line in lines] == [True] * (len(lines) - 1) + [False]
    assert all(line["unusable"] == [] for line in lines)
    return lines


def test_an_activation_from_outside(tmp_path: Path, template: Path, demo_bundle: Path) -> None:
    new = small_bundle(demo_bundle, tmp_path / "outside" / NEW)
    lines = die_everywhere(tmp_path, template, "activate", new)
    assert len(lines) > 25
    for line in lines:
        assert (line["active"], line["previous"]) == (OLD, OLDER)
        if line["died"] and line["stage"] != "provisional":
            # Beginning again cleans up what the death left, and comes to its end.
            assert line["again"] == {"active": OLD, "previous": OLDER, "stage": "provisional", "unusable": []}
            assert line["leftovers"] == []
    stages = [line["stage"] for line in lines]
    order = [None, "staged", "verified", "self-tested", "provisional"]
    assert [stage for number, stage in enumerate(stages) if stage not in stages[:number]] == order
    assert [order.index(stage) for stage in stages] == sorted(order.index(stage) for stage in stages)


def test_a_commit(tmp_path: Path, template: Path, demo_bundle: Path) -> None:
    small_bundle(demo_bundle, template / NEW)
    bring_in(template, NEW)
    lines = die_everywhere(tmp_path, template, "commit")
    assert len(lines) > 4
    outcomes = {(line["active"], line["previous"], line["stage"]) for line in lines}
    assert outcomes == {(OLD, OLDER, "provisional"), (NEW, OLD, None)}
    for line in lines:
        done = {"active": NEW, "previous": OLD, "stage": None, "unusable": []}
        assert line["active"] == NEW or line["again"] == done


def test_a_failed_candidate_given_up(tmp_path: Path, template: Path, demo_bundle: Path) -> None:
    small_bundle(demo_bundle, template / NEW)
    bring_in(template, NEW)
    lines = die_everywhere(tmp_path, template, "give-up")
    assert {(line["active"], line["previous"]) for line in lines} == {(OLD, OLDER)}
    assert {line["stage"] for line in lines} == {"provisional", None}


def test_a_rollback(tmp_path: Path, template: Path) -> None:
    lines = die_everywhere(tmp_path, template, "rollback")
    outcomes = {(line["active"], line["previous"], line["stage"]) for line in lines}
    assert outcomes == {(OLD, OLDER, None), (OLDER, OLD, None)}
