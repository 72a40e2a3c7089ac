"""One entry of a dermoscope's folder: what its name and kind say, and reading it once, whole, unchanged (F01, F05)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.intake.capture import FileStamp
from agent.intake.reasons import Reason, Rejection, refuse

_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", "~")
_NOT_OURS = {"thumbs.db", "desktop.ini"}
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".gif", ".webp", ".heic")
_TRIES = 3


class Role(Enum):
    """What a name in the folder stands for."""

    CANDIDATE = "candidate"
    """A capture by its content, whatever its extension."""
    SIDECAR = "sidecar"
    LEFT = "left"
    """Temporary (it is renamed when it is done), hidden, or made by a desktop."""


class ChangedError(Exception):
    """A file was written to, replaced or removed while it was read."""


@dataclass(frozen=True)
class Entry:
    """What lies under a name. ``real`` is the file to read: the link's target where the name is a link."""

    path: Path
    real: Path
    stamp: FileStamp
    rejection: Rejection | None = None
    ignored: bool = False
    """A folder that does not pretend to be a picture, or a link to nothing."""


def role(name: str) -> Role:
    """What a file's name says about it."""
    lower = name.lower()
    if lower.startswith(".") or lower.endswith(_TEMPORARY) or lower in _NOT_OURS:
        return Role.LEFT
    return Role.SIDECAR if lower.endswith(".json") else Role.CANDIDATE


def look(folder: Path, name: str) -> Entry:
    """What lies under ``name`` in ``folder`` now, without opening it.

    Raises:
        OSError: it is gone, or may not be looked at.
    """
    path = folder / name
    status = path.lstat()
    if not stat.S_ISLNK(status.st_mode):
        return _judge(path, path, status)
    root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        return Entry(path, path, FileStamp.of(status), refuse(Reason.LINK_OUTSIDE))
    try:
        target = real.lstat()
    except FileNotFoundError:
        return Entry(path, path, FileStamp.of(status), ignored=True)
    if stat.S_ISLNK(target.st_mode):  # a link that leads to itself
        return Entry(path, path, FileStamp.of(status), ignored=True)
    return _judge(path, real, target)


def _judge(path: Path, real: Path, status: os.stat_result) -> Entry:
    if stat.S_ISREG(status.st_mode):
        return Entry(path, real, FileStamp.of(status))
    # The times of a folder or a pipe change with what happens inside: only its place and inode are its stamp.
    stamp = FileStamp(status.st_dev, status.st_ino, 0, 0, 0)
    if stat.S_ISDIR(status.st_mode):
        if path.suffix.lower() not in _PICTURES:
            return Entry(path, real, stamp, ignored=True)
        return Entry(path, real, stamp, refuse(Reason.NOT_A_FILE, kind="a folder"))
    return Entry(path, real, stamp, refuse(Reason.NOT_A_FILE, kind="a pipe or a device"))


def read_once(path: Path) -> tuple[bytes, FileStamp]:
    """All bytes of a file and its stamp, which was the same before and after, for the open file and for its name.

    A change of its rights or times alone (``cp -p`` sets them after the close) is met by reading again at once.

    Raises:
        ChangedError: it did not hold still, is gone, or is no plain file any more.
        OSError: it cannot be read.
    """
    for _ in range(_TRIES):
        try:
            # O_NONBLOCK: a pipe put in the file's place since it was looked at must not hold us up.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            break
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - it is open already
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                break
            data = _read(file.fileno(), before.st_size)
            after = FileStamp.of(os.fstat(descriptor))
        try:
            named = FileStamp.of(path.lstat())
        except FileNotFoundError:
            break
        if FileStamp.of(before) == after == named and len(data) == after.size:
            return data, after
    raise ChangedError(f"{path} changed while it was read")


def _read(descriptor: int, size: int) -> bytes:
    """At most ``size`` bytes and one more, by which growth is noticed."""
    parts: list[bytes] = []
    left = size + 1
    while left > 0:
        part = os.read(descriptor, left)
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
