"""Wear: eMMC, ext4 and SMART, as the kernel and smartctl tell them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.doctor.checks.wear import CHECK
from agent.doctor.finding import Outcome
from tests.doctor.conftest import look


@pytest.fixture
def disk(make_place, root: Path, tmp_path: Path):
    """``disk(name)``: the state folder lies on this disk's first partition; returns the folder that tells of it."""

    def make(name: str) -> Path:
        (tmp_path / "state").mkdir(exist_ok=True)
        number = (tmp_path / "state").stat().st_dev
        folder = root / f"sys/devices/{name}"
        partition = folder / f"{name}1"
        partition.mkdir(parents=True)
        (partition / "partition").write_text("1\n")
        (root / "sys/dev/block").mkdir(parents=True)
        (root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").symlink_to(partition)
        return folder

    return make


def emmc(folder: Path, life: str, reserve: str = "0x01") -> None:
    (folder / "device").mkdir(exist_ok=True)
    (folder / "device/life_time").write_text(f"{life}\n")
    (folder / "device/pre_eol_info").write_text(f"{reserve}\n")


def test_a_system_that_tells_nothing(make_place, programs, disk) -> None:
    assert look(CHECK, make_place()).one(Outcome.SKIPPED, "does not tell which disk")
    disk("sda")
    assert look(CHECK, make_place()).one(Outcome.SKIPPED, "sda does not tell its wear")


@pytest.mark.parametrize(
    ("told", "outcome", "text"),
    [
        (("0x03 0x01", "0x01"), Outcome.OK, "up to 30 percent"),
        (("0x02 0x09", "0x01"), Outcome.WARNING, "90 percent"),
        (("0x03 0x01", "0x02"), Outcome.WARNING, "30 percent"),
        (("0x0b 0x01", "0x01"), Outcome.FAILED, "end of its life"),
        (("0x03 0x01", "0x03"), Outcome.FAILED, "end of its life"),
    ],
)
def test_emmc(make_place, disk, told: tuple[str, str], outcome: Outcome, text: str) -> None:
    emmc(disk("mmcblk0"), *told)
    assert look(CHECK, make_place()).one(outcome, text)


def test_errors_that_the_file_system_noted(make_place, disk, root: Path, programs) -> None:
    disk("sda")
    folder = root / "sys/fs/ext4/sda1"
    folder.mkdir(parents=True)
    (folder / "errors_count").write_text("0\n")
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)
    (folder / "errors_count").write_text("3\n")
    assert look(CHECK, make_place()).one(Outcome.FAILED, "noted 3 errors")


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ((True, 12, 0), Outcome.OK),
        ((True, 85, 0), Outcome.WARNING),
        ((False, 12, 8), Outcome.FAILED),
        ((True, 12, 16), Outcome.FAILED),
    ],
)
def test_smart(make_place, disk, programs, said: tuple[bool, int, int], outcome: Outcome) -> None:
    passed, used, code = said
    disk("nvme0n1")
    told = {"smart_status": {"passed": passed}, "nvme_smart_health_information_log": {"percentage_used": used}}
    programs("smartctl", f"echo '{json.dumps(told)}'; exit {code}")
    assert look(CHECK, make_place()).one(outcome, "nvme0n1")


def test_a_smartctl_that_may_not(make_place, disk, programs) -> None:
    disk("nvme0n1")
    programs("smartctl", 'echo \'{"smartctl": {"exit_status": 2}}\'; exit 2')
    assert look(CHECK, make_place()).one(Outcome.SKIPPED)
