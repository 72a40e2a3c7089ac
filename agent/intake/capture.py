"""What intake hands on: a complete capture, or a thing in the folder that can never become one."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.intake.reasons import Rejection

_STAMP: Final = struct.Struct("<QQqqq")


@dataclass(frozen=True)
class FileStamp:
    """What tells that a file changed: device, inode, size in bytes, modification and change time in ns since 1970."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """The stamp of a ``stat`` result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def packed(self) -> bytes:
        """40 bytes that are the same for the same stamp: a folder's thousands are kept so, in a third of the memory."""
        return _STAMP.pack(self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns)


@dataclass(frozen=True)
class Capture:
    """A complete file that a dermoscope wrote. ``identity`` is ``"sha256:<hex>"`` of its bytes, whatever its name."""

    path: Path
    dermoscope_id: str
    stamp: FileStamp
    data: bytes
    sha256: str
    stable: bool = True
    """False where the file never reached its end marker and only stopped changing."""

    @property
    def identity(self) -> str:
        """The key under which the store knows this content."""
        return f"sha256:{self.sha256}"

    @classmethod
    def from_bytes(
        cls, path: Path, dermoscope_id: str, stamp: FileStamp, data: bytes, *, stable: bool = True
    ) -> Capture:
        """A capture of bytes that were read whole."""
        return cls(path, dermoscope_id, stamp, data, hashlib.sha256(data).hexdigest(), stable)


@dataclass(frozen=True)
class Unusable:
    """A directory entry that is refused unread (a folder called x.jpg, a pipe, 2 GB of nothing, a link that leaves)."""

    path: Path
    dermoscope_id: str
    stamp: FileStamp
    rejection: Rejection

    @property
    def identity(self) -> str:
        """The key under which the store knows this entry: its place and stamp, as there are no bytes to hash."""
        text = f"{self.dermoscope_id}\0{os.fsencode(self.path)!r}\0{self.stamp}"
        return f"stat:{hashlib.sha256(text.encode()).hexdigest()}"


Arrival = Capture | Unusable
