"""Folders, files and links with the right owner and mode, written whole; each says whether it changed anything."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.install.journal import InstallError, Journal, Outcome


@dataclass(frozen=True)
class Owner:
    """Numbers of a user and a group."""

    uid: int
    gid: int


ROOT = Owner(0, 0)


class Files:
    """Changes the file system and keeps a journal. ``chown`` is handed in, as only root can do it."""

    def __init__(self, journal: Journal, chown: Callable[[Path, int, int], None] | None = None) -> None:
        self._journal, self._chown = journal, chown or _chown

    def folder(self, path: Path, mode: int, owner: Owner = ROOT) -> None:
        """A folder; what lies in it is left alone."""
        existed = path.is_dir() and not path.is_symlink()
        if not existed:
            if path.is_symlink() or path.exists():
                raise InstallError(f"{path}: is in the way, a folder belongs here: move it away and start again")
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
        changed = self._put_right(path, mode, owner)
        self._journal.add(_outcome(existed=existed, changed=changed), str(path))

    def file(self, path: Path, content: bytes, mode: int = 0o644, owner: Owner = ROOT) -> None:
        """A file with exactly this content, put in place by a rename."""
        existed = path.is_file() and not path.is_symlink()
        same = existed and path.read_bytes() == content
        if not same:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            self._put_right(fresh, mode, owner)
            fresh.replace(path)
            sync_folder(path.parent)
        changed = self._put_right(path, mode, owner) or not same
        self._journal.add(_outcome(existed=existed, changed=changed), str(path))

    def link(self, path: Path, target: str) -> None:
        """A symbolic link, changed in one step."""
        existed = path.is_symlink()
        if existed and str(path.readlink()) == target:
            self._journal.add(Outcome.KEPT, str(path))
            return
        if path.exists() and not existed:
            raise InstallError(f"{path}: is in the way, a link belongs here: move it away and start again")
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(path)
        sync_folder(path.parent)
        self._journal.add(_outcome(existed=existed, changed=True), f"{path} -> {target}")

    def owned(self, path: Path, mode: int, owner: Owner) -> None:
        """Owner and mode of a file that is kept as it is."""
        changed = self._put_right(path, mode, owner)
        self._journal.add(Outcome.CHANGED if changed else Outcome.KEPT, str(path))

    def remove(self, path: Path) -> None:
        """A file, a link, or a folder with all that is in it; nothing where there is none."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()
        else:
            return
        self._journal.add(Outcome.REMOVED, str(path))

    def remove_if_empty(self, path: Path) -> bool:
        """A folder that nobody needs; False where something lies in it."""
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        self._journal.add(Outcome.REMOVED, str(path))
        return True

    def _put_right(self, path: Path, mode: int, owner: Owner) -> bool:
        status = path.lstat()
        changed = False
        if (status.st_uid, status.st_gid) != (owner.uid, owner.gid):
            self._chown(path, owner.uid, owner.gid)
            changed = True
        if changed or stat.S_IMODE(status.st_mode) != mode:  # a change of owner takes setgid away
            path.chmod(mode)
            changed |= stat.S_IMODE(status.st_mode) != mode
        return changed


def _chown(path: Path, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)


def _outcome(*, existed: bool, changed: bool) -> Outcome:
    if not existed:
        return Outcome.MADE
    return Outcome.CHANGED if changed else Outcome.KEPT


def sync_folder(folder: Path) -> None:
    """Make renames in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
