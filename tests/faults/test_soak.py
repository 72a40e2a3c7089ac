"""The soak in short (`benchmarks.soak`): everything runs, everything breaks, and then the books agree."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak.books import Findings, check_captures
from benchmarks.soak.captures import Notes, Written
from benchmarks.soak.figures import Figures, Sample, _descriptors
from benchmarks.soak.report import report
from benchmarks.soak.run import Plan, soak
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


def test_growth_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)

    def after(mb_per_hour: float) -> Figures:
        figures = Figures()
        for second in range(2400):
            grown = 150.0 + mb_per_hour * second / 3600 + 2.0 * rng.normal()
            figures.samples.append(Sample(float(second), 0, grown, 100.0, 18, 5, 23, 0, 0))
        return figures

    assert after(0.0).growth() == []
    (told,) = after(10.0).growth()
    assert told.startswith("agent_mb grows")
    assert len(after(0.0).longest_life()) == 2340, "a minute is for warming up"
    assert np.allclose(after(36.0).by_period(), [153.0, 159.0, 165.0], atol=0.5)


@pytest.mark.fault("F11")
def test_the_books_see_what_is_lost_doubled_or_exchanged(tmp_path: Path) -> None:
    notes, found = Notes(), Findings()
    good, bad = Written(tmp_path / "a.jpg", "m", 0.0, "whole", "P-1"), Written(tmp_path / "b.jpg", None, 0.0, "cut off")
    notes.written = {"1": good, "2": bad, "3": good}
    result = '{"latency_ms": 1.0, "diagnosis": {"all_classes": {"melanoma": 0.7}}}'
    scans = [
        {"scan_id": "x", "image_sha256": "1", "state": "answered", "result": result, "reason": None},
        {"scan_id": "y", "image_sha256": "2", "state": "answered", "result": result, "reason": None},
        {"scan_id": "z", "image_sha256": "4", "state": "received", "result": None, "reason": None},
    ]
    check_captures(found, scans, notes, {"m": {"melanoma": 0.2}})
    told = "\n".join(found.wrong)
    assert "captures: 1 missing: ['3']" in told
    assert "captures: 1 too many: ['4']" in told
    assert "a.jpg: a wrong answer" in told
    assert "b.jpg (cut off): no whole picture, and was answered" in told


def test_a_connection_that_is_not_closed_shows_and_a_descriptor_kept_for_the_next_does_not(tmp_path: Path) -> None:
    database = tmp_path / "dermascan.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")

        def read() -> sqlite3.Connection:
            one = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
            one.execute("SELECT * FROM t").fetchall()
            return one

        of_database, others = _descriptors(os.getpid(), database)
        for one in [read() for _ in range(4)]:
            one.close()
        assert _descriptors(os.getpid(), database)[1] == others
        leaked = read()
        assert _descriptors(os.getpid(), database)[1] == others + 1
        leaked.close()
        assert of_database == 1
