"""The disk: room, files, whether it can be written, and how much of the agent's quota is used (F06)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from agent.doctor.finding import Check, Finding, failed, ok, skipped, warning
from agent.doctor.place import Place
from agent.records.space import DISK_RESERVE_BYTES, MIB, PAUSE_SHARE, SpaceGuard

_SOON_SHARE: Final = 0.85
_FEW_FILES: Final = 0.02
_ROOM: Final = "delete what is not needed on this disk (sudo du -xh / | sort -h | tail), or fit a larger one"


def look(place: Place) -> Iterator[Finding]:
    """The disk under ``state_dir``."""
    folder = place.state_dir
    if not folder.is_dir():
        yield skipped("Not looked at: the folder for answers is missing; see 'Agent's folders'.")
        return
    disk, quota_mb = os.statvfs(folder), place.config.store.quota_mb
    space = SpaceGuard(folder, quota_mb).space()
    used, free = space.database + space.results, space.disk_free
    found = list(_states(disk, free, _share_of_files(disk)))
    if space.share >= PAUSE_SHARE:
        found.append(
            failed(
                f"The agent's quota is full ({used // MIB} of {quota_mb} MB): no new captures are taken in.",
                "raise [store] quota_mb if the disk has room",
            )
        )
    elif space.share >= _SOON_SHARE:
        found.append(
            warning(
                f"The agent's quota is nearly full ({used // MIB} of {quota_mb} MB).",
                "raise [store] quota_mb if the disk has room",
            )
        )
    if used + free < quota_mb * MIB and free >= DISK_RESERVE_BYTES:
        found.append(
            warning(
                f"The disk will be full before the quota is: {free // MIB} MB are free, and the agent may take "
                f"{quota_mb - used // MIB} MB more.",
                f"lower [store] quota_mb to {max(64, (used + free - DISK_RESERVE_BYTES) // MIB)}, or make room",
            )
        )
    yield from found or [ok(f"{free / (1 << 30):.1f} GB are free; the agent uses {used // MIB} of {quota_mb} MB.")]


def _share_of_files(disk: os.statvfs_result) -> float:
    return disk.f_favail / disk.f_files if disk.f_files else 1.0


def _states(disk: os.statvfs_result, free: int, files: float) -> Iterator[Finding]:
    if disk.f_flag & os.ST_RDONLY:
        yield failed(
            "The disk can only be read: no answer can be kept. Linux does this when a disk is failing.",
            "save what matters, look at 'Wear of the disk', restart the device; replace the disk if it comes again",
        )
    if free < DISK_RESERVE_BYTES:
        yield failed(f"The disk is full ({free // MIB} MB free): no new captures are taken in.", _ROOM)
    if files < _FEW_FILES:
        yield failed(f"The disk has room for few more files ({files:.1%} left).", _ROOM)


CHECK = Check(
    name="disk",
    title="Room on the disk",
    looks_at="free bytes and files under state_dir, whether it can be written, the share of the quota",
    why="On a full disk no answer can be kept, so that the agent stops taking captures in.",
    look=look,
    hung="the disk does not answer: restart the device",
)
