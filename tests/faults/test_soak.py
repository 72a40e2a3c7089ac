"""The soak in short (`benchmarks.soak`): everything runs, everything breaks, and then the books agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import Plan, soak
from benchmarks.soak_report import report
from tests.fakes.broker import mosquitto_path

ROWS = ("F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F11", "F12", "F16", "F18", "F19")


def rows_of(test):
    """Marks a test with every row that the soak's faults belong to."""
    for row in ROWS:
        test = pytest.mark.fault(row)(test)
    return pytest.mark.requirement("R-INT-6", "R-CLD-1", "R-CLD-2")(test)


def in_short(folder: Path, plan: Plan) -> None:
    mosquitto_path()
    soaked = soak(plan, folder)
    assert not soaked.wrong, report(soaked)
    assert soaked.found.captures >= plan.seconds / plan.capture_every_s / 2
    assert len(soaked.faults.counts) >= plan.seconds / plan.fault_every_s / 4
    assert report(soaked).startswith(f"## {plan.seconds / 60:.1f} minutes, seed {plan.seed}: as it has to be")


@rows_of
@pytest.mark.timeout(90)
def test_seconds_of_everything(tmp_path: Path) -> None:
    often = {"capture_every_s": 0.5, "fault_every_s": 0.6, "verdict_every_s": 2.0}
    in_short(tmp_path, Plan(5.0, seed=7, motifs=1, fault_length=0.2, **often))


@rows_of
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_minute_of_everything(tmp_path: Path, seed: int) -> None:
    in_short(tmp_path, Plan(60.0, seed=seed, capture_every_s=1.0, fault_every_s=2.0, verdict_every_s=5.0))
