"""The examination: whatever a check does, the others are told, and it ends in time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.doctor.checks import CHECKS
from agent.doctor.examination import examine
from agent.doctor.finding import Outcome
from agent.doctor.patience import TooLong, program, within

FAKES = "tests.doctor.fake_checks"


@pytest.mark.requirement("R-SRV-5")
def test_hanging_and_broken_checks_cost_nobody_else(write_config, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    seen: list[tuple[int, int]] = []
    told = examine(write_config(), checks=f"{FAKES}:ALL", progress=lambda *done: seen.append(done))
    assert time.monotonic() - began < 10.0
    by_name = {one.check: one for one in told.findings}
    assert list(by_name) == ["well", "hangs", "deep", "raises", "chatters"], "in their order, whoever was first"
    assert by_name["well"].outcome is Outcome.OK
    for name in ("hangs", "deep"):
        assert by_name[name].sentence == "It gave no answer within 0 seconds."
        assert by_name[name].remedy == "turn it off and on"
    assert "RuntimeError: this check is broken" in by_name["raises"].sentence
    assert by_name["chatters"].outcome is Outcome.WARNING
    assert (told.device, told.exit_code) == ("device-1", 2)
    assert seen[-1][1] == 5


def test_a_check_that_takes_the_process_with_it(write_config) -> None:
    told = examine(write_config(), checks=f"{FAKES}:CRASHES")
    assert [one.sentence for one in told.findings] == ["It broke off without an answer."] * 2
    assert told.exit_code == 2


def test_a_doctor_that_cannot_begin(write_config) -> None:
    told = examine(write_config(), checks=f"{FAKES}:NO_SUCH_LIST")
    assert told.findings[0].sentence.startswith("The doctor could not begin")
    assert told.exit_code == 2


def test_only_what_is_named(write_config) -> None:
    told = examine(write_config(), ["well"], checks=f"{FAKES}:ALL")
    assert ([one.check for one in told.findings], told.exit_code) == (["well"], 0)


@pytest.mark.timeout(120)
@pytest.mark.requirement("R-SRV-5")
def test_every_check_of_a_real_run_answers_and_changes_nothing(write_config, tmp_path: Path, make_store) -> None:
    make_store().close()
    path = write_config()

    def everything() -> dict[str, tuple[int, float, int]]:
        files = [one for one in tmp_path.rglob("*") if not one.name.endswith("-shm")]
        return {str(one): (one.stat().st_size, one.stat().st_mtime, one.stat().st_mode) for one in files}

    before = everything()
    told = examine(path)
    assert {one.check for one in told.findings} == {check.name for check in CHECKS}
    assert not [one for one in told.findings if "broke off" in one.sentence or "no answer" in one.sentence]
    gone = {key for key, value in before.items() if everything().get(key) != value}
    assert not {one for one in gone if not one.endswith(("state", "-wal"))}


def test_without_settings_the_others_say_so(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[device")
    told = examine(tmp_path / "agent.toml", ["settings", "gpu", "database", "sqlite"])
    by_name = {one.check: one.outcome for one in told.findings}
    assert by_name.pop("settings") is Outcome.FAILED
    assert set(by_name.values()) == {Outcome.SKIPPED}


def test_patience() -> None:
    assert within(5.0, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5.0, lambda: 1 / 0)
    with pytest.raises(TooLong):
        within(0.05, lambda: time.sleep(1.0))
    with pytest.raises(TooLong):
        program(["sleep", "5"], 0.05)
    assert program(["no-such-program-here"]) is None


@pytest.mark.requirement("R-SRV-5")
def test_every_check_says_what_and_why_and_has_tests_of_its_own() -> None:
    here = Path(__file__).resolve().parent / "checks"
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for check in CHECKS:
        assert (here / f"test_{check.name}.py").exists(), check.name
        assert all((check.looks_at, check.why.endswith("."), check.hung, check.title))


@pytest.mark.requirement("R-SRV-5")
def test_the_page_tells_every_check() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for check in CHECKS:
        assert f"| `{check.name}` | {check.title} | {check.looks_at} | {check.why} |" in page, check.name
