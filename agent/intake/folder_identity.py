"""Whether a dermoscope's folder is the one we know: a share that dropped looks like an empty folder (F03).

What appears in a folder is always taken, as a capture's identity is its content. Only an *absence* needs belief, and
it is believed while the folder's marker file names this dermoscope.

* The marker ``.dermascan-folder`` is written once a capture was taken from a folder that was there at the start and
  has none: an empty mount point, with its share away, never gets one by itself.
* A folder that comes to lie in the place of the known one and has no marker is not believed until someone who
  knows puts one there: ``touch FOLDER/.dermascan-folder``. An empty marker is good for any dermoscope.
* Where the folder cannot be written to, its device and inode alone must do, for as long as the agent runs.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = ".dermascan-folder"
_MARKER_BYTES = 4096
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "virtiofs", "ncpfs", "davfs"}

log = logging.getLogger(__name__)


class FolderIdentity:
    """Watches who a folder is. ``check`` is cheap (two system calls) and may be called from any thread."""

    def __init__(self, folder: Path, dermoscope_id: str) -> None:
        self._folder = folder
        self._dermoscope_id = dermoscope_id
        self._first: tuple[int, int] | None = None
        self._warned: tuple[int, int] | None = None

    def current(self) -> tuple[int, int] | None:
        """Device and inode of what lies at the folder's place now; ``None`` where there is no folder."""
        try:
            status = self._folder.stat()
        except OSError:
            return None
        return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None

    def adopt(self) -> None:
        """Remember the folder that is there, if it is the first one."""
        now = self.current()
        if self._first is None:
            self._first = now

    def captured(self) -> None:
        """A capture was taken: the first folder has shown that it is a dermoscope's and gets its marker."""
        with self._opened() as (folder, now):
            if folder is None or now is None or now != self._first:
                return
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(MARKER, flags, 0o644, dir_fd=folder)
            except OSError:
                return  # it has one, or is read-only: then device and inode must do
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is open already
                file.write(f"{self._dermoscope_id}\n")

    def same(self) -> bool:
        """Whether a folder is there and, as far as can be seen, the one that it was; no marker speaks for none."""
        now, marked = self._look()
        return now is not None and (marked if marked is not None else self._first in {None, now})

    def believed(self) -> bool:
        """Whether a file that is not in the folder may be taken for removed."""
        now, marked = self._look()
        if now is None:
            return False
        if marked is not None:
            if marked:
                self._first = now
            elif self._warned != now:
                self._warned = now
                log.warning("%s carries the marker of another dermoscope; check the configuration", self._folder)
            return marked
        if now == self._first:
            return not os.access(self._folder, os.W_OK)
        if self._first is not None and self._warned != now:
            self._warned = now
            log.warning(
                "another folder lies at %s than before; what is missing in it is not taken for removed "
                "(if it is the right one: touch %s)",
                self._folder,
                self._folder / MARKER,
            )
        return False

    @contextmanager
    def _opened(self) -> Iterator[tuple[int | None, tuple[int, int] | None]]:
        """The folder that is there now, held open, with its device and inode; both ``None`` where there is none.

        What is asked and done by the descriptor concerns this one folder, also where another takes its place meanwhile:
        a share that drops between two steps must not leave its marker in the empty mount point.
        """
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield None, None
            return
        try:
            status = os.fstat(folder)
            yield folder, (status.st_dev, status.st_ino)
        finally:
            os.close(folder)

    def _look(self) -> tuple[tuple[int, int] | None, bool | None]:
        """Which folder is there, and whether its marker names this dermoscope (``None``: it has none)."""
        with self._opened() as (folder, now):
            return now, None if folder is None else self._marked(folder)

    def _marked(self, folder: int) -> bool | None:
        try:
            descriptor = os.open(MARKER, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            return None
        try:
            text = os.read(descriptor, _MARKER_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return text in {"", self._dermoscope_id}


def needs_polling(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether others may write to the folder without an event here: NFS, CIFS and other network shares, and FUSE."""
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return True
    real = os.fsencode(os.path.realpath(folder))
    best, kind = b"", ""
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        # proc(5): spaces, tabs, newlines and backslashes in the path are written as octal.
        place = fields[4].decode("unicode_escape").encode("latin-1")
        inside = real == place or real.startswith(place.rstrip(b"/") + b"/")
        if inside and len(place) >= len(best):
            best, kind = place, after.split()[0].decode("ascii", "replace")
    return kind in _NETWORK or kind.startswith("fuse")
