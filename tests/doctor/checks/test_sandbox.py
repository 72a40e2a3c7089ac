"""The service's sandbox: our unit passes, and a drop-in that opens it is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.doctor.checks.sandbox import CHECK, read_unit, unit_files
from agent.doctor.finding import Outcome
from agent.doctor.place import UNIT
from tests.doctor.conftest import look

OURS = Path(__file__).resolve().parents[3] / "systemd" / UNIT


@pytest.fixture
def installed(root: Path) -> Path:
    """Our unit; returns the folder of its drop-ins."""
    folder = root / "usr/lib/systemd/system"
    folder.mkdir(parents=True)
    shutil.copyfile(OURS, folder / UNIT)
    drop_ins = root / f"etc/systemd/system/{UNIT}.d"
    drop_ins.mkdir(parents=True)
    return drop_ins


def test_without_a_unit(make_place) -> None:
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)


def test_our_unit(make_place, installed: Path) -> None:
    assert look(CHECK, make_place()).ok


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("line", "outcome", "text"),
    [
        ("User=root", Outcome.FAILED, "runs as root"),
        ("NoNewPrivileges=no", Outcome.FAILED, "NoNewPrivileges is off"),
        ("ProtectSystem=", Outcome.FAILED, "ProtectSystem is off"),
        ("ProtectHome=false", Outcome.FAILED, "ProtectHome is off"),
        ("RestartPreventExitStatus=", Outcome.WARNING, "again and again"),
        ("LimitCORE=infinity", Outcome.WARNING, "core file"),
    ],
)
def test_a_drop_in_that_opens_it(make_place, installed: Path, line: str, outcome: Outcome, text: str) -> None:
    (installed / "99-debug.conf").write_text(f"[Service]\n{line}\n")
    assert look(CHECK, make_place()).one(outcome, text)


@pytest.mark.parametrize(("score", "outcome"), [("1.3 OK", Outcome.OK), ("9.6 UNSAFE", Outcome.WARNING)])
def test_the_score(make_place, programs, installed: Path, score: str, outcome: Outcome) -> None:
    programs("systemd-analyze", f"echo '→ Overall exposure level for {UNIT}: {score} 🙂'")
    assert score[:3] in look(CHECK, make_place()).one(outcome).sentence


def test_units_are_joined_as_systemd_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[Service]\nA=1\n# A=2\nB=1\nC=long \\\nline\n")
    (tmp_path / "b").write_text("[Service]\nA=3\nB=\nB=2\n")
    assert read_unit([tmp_path / "a", tmp_path / "b"]) == {"A": ["1", "3"], "B": ["2"], "C": ["long  line"]}


def test_of_two_drop_ins_of_one_name_the_administrators_counts(installed: Path, root: Path) -> None:
    (installed / "50-x.conf").write_text("[Service]\nNice=1\n")
    weaker = root / f"usr/lib/systemd/system/{UNIT}.d"
    weaker.mkdir()
    (weaker / "50-x.conf").write_text("[Service]\nNice=2\n")
    (weaker / "10-y.conf").write_text("[Service]\nNice=3\n")
    assert read_unit(unit_files(root, UNIT))["Nice"] == ["3", "1"]
