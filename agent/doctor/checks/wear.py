"""Wear of the disk: what eMMC, the file system and SMART tell, where they tell it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agent.doctor.finding import Check, Finding, failed, ok, skipped, warning
from agent.doctor.patience import TooLong, program
from agent.doctor.place import Place

WORN: Final = 80
"""Percent of its life that a disk has had, from which on somebody should order another one."""
WORN_OUT: Final = 100
_REPLACE: Final = "back the device up (dermascan backup) and replace the disk"
_FAILING: Final = 0b11000
"""smartctl(8), EXIT STATUS: the disk is failing, or attributes are below their thresholds."""


def look(place: Place) -> Iterator[Finding]:
    """The disk under ``state_dir``; under a mapper or an array, each of its disks."""
    number = _existing(place.state_dir).stat().st_dev
    entry = place.root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if not entry.exists():
        yield skipped("The system does not tell which disk this is (a container, or a file system in memory).")
        return
    disks = sorted(set(_disks(entry.resolve())))
    found = [*_file_system(place.root / "sys/fs/ext4" / entry.resolve().name)]
    told: list[Finding] = []
    for disk in disks:
        (found if (judged := [*_emmc(disk), *_smart(disk)]) and judged[0].remedy else told).extend(judged)
    names = ", ".join(disk.name for disk in disks)
    nothing = skipped(f"{names} does not tell its wear here. (For SSDs: sudo apt install smartmontools, then as root.)")
    yield from found or told or [nothing]


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


def _disks(entry: Path) -> Iterator[Path]:
    if slaves := [one.resolve() for one in (entry / "slaves").glob("*")]:
        for slave in slaves:
            yield from _disks(slave)
    elif (entry / "partition").exists():
        yield entry.parent
    else:
        yield entry


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").split()[0], 0)
    except (OSError, ValueError, IndexError):
        return None


def _file_system(folder: Path) -> Iterator[Finding]:
    if errors := _number(folder / "errors_count"):
        yield failed(
            f"The file system has noted {errors} errors.",
            "back the device up (dermascan backup) and restart it; if the number grows, replace the disk",
        )


def _emmc(disk: Path) -> Iterator[Finding]:
    """JEDEC eMMC 5.0: 0x01 is 0 to 10 % of its life, 0x0A 90 to 100 %, 0x0B more than it was made for."""
    try:
        words = (disk / "device/life_time").read_text(encoding="ascii").split()
        used = max(int(word, 16) for word in words) * 10
    except (OSError, ValueError):
        return
    reserve = _number(disk / "device/pre_eol_info") or 0
    if used > WORN_OUT or reserve >= 3:
        yield failed(f"The disk {disk.name} (eMMC) has reached the end of its life.", _REPLACE)
    elif used >= WORN or reserve == 2:
        yield warning(f"The disk {disk.name} (eMMC) has had {min(used, 100)} percent of its life.", _REPLACE)
    elif used > 0:
        yield ok(f"The disk {disk.name} (eMMC) has had up to {used} percent of its life.")


def _smart(disk: Path) -> Iterator[Finding]:
    if disk.name.startswith(("mmcblk", "loop", "ram", "zram")):
        return
    try:
        done = program(["smartctl", "--json", "-H", "-A", f"/dev/{disk.name}"])
    except TooLong:
        yield failed(f"The disk {disk.name} does not answer when asked for its health.", _REPLACE)
        return
    try:
        told: dict[str, Any] = json.loads(done.stdout) if done is not None else {}
    except ValueError:
        return
    passed = told.get("smart_status", {}).get("passed")
    nvme = told.get("nvme_smart_health_information_log", {})
    used = nvme.get("percentage_used")
    if passed is False or nvme.get("critical_warning", 0) or (done is not None and done.returncode & _FAILING):
        yield failed(f"The disk {disk.name} says of itself that it is failing.", _REPLACE)
    elif isinstance(used, int) and used >= WORN:
        yield warning(f"The disk {disk.name} has had {used} percent of its life.", _REPLACE)
    elif passed is not None:
        worn = f", and has had {used} percent of its life" if isinstance(used, int) else ""
        yield ok(f"The disk {disk.name} says that it is healthy{worn}.")


CHECK = Check(
    name="wear",
    title="Wear of the disk",
    looks_at="eMMC life time and reserve, errors that ext4 has noted, SMART where smartctl is installed",
    why="Flash wears out by writing; a disk that is replaced in time loses nothing.",
    look=look,
    limit_s=30.0,
    hung="the disk does not answer: back the device up and replace the disk",
)
