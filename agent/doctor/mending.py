"""Mending what is safe to mend: take rights away, make our own folders, remove our own leftovers. Nothing else.

It may run as root in folders that the agent's user can write, so nothing is followed: no link, and no file of several
names, which could be somebody else's.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from agent.doctor.finding import Kind, Mend
from agent.doctor.place import User


class NotMended(Exception):
    """It was left as it is; one sentence why."""


def mend(what: Mend, user: User) -> str:
    """Do it; returns what was done, in a sentence.

    Raises:
        NotMended: it cannot be done, or is not safe to do.
    """
    path = Path(what.path)
    try:
        if what.kind is Kind.CHMOD:
            return _take_rights_away(path, what.mode, user)
        if what.kind is Kind.MAKE_FOLDER:
            return _make_folder(path, what.mode, user)
        return _remove(path, user)
    except OSError as error:
        hint = "" if os.geteuid() == 0 else ": run it as root (sudo)"
        raise NotMended(f"{path}: could not be mended ({error.strerror}){hint}") from error


def _take_rights_away(path: Path, mode: int, user: User) -> str:
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        _check_ours(path, status, user)
        before = stat.S_IMODE(status.st_mode)
        after = before & mode
        if after == before:
            return f"{path}: had the right mode already ({before:o})."
        os.chmod(f"/proc/self/fd/{handle}", after)  # noqa: PTH101 - the file that was looked at, and no other
    finally:
        os.close(handle)
    return f"{path}: mode {before:o} is now {after:o}."


def _check_ours(path: Path, status: os.stat_result, user: User) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise NotMended(f"{path}: is a link or no plain file: it was left as it is; look at it by hand")
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise NotMended(f"{path}: has {status.st_nlink} names: it was left as it is; look at it by hand")
    if status.st_uid not in {0, user.uid, os.geteuid()}:
        raise NotMended(f"{path}: belongs to another user (uid {status.st_uid}): it was left as it is")


def _make_folder(path: Path, mode: int, user: User) -> str:
    missing = [one for one in (path, *path.parents) if not os.path.lexists(one)]
    if not missing:
        return f"{path}: is there already."
    for one in reversed(missing[1:]):
        one.mkdir(mode=0o755)
    path.mkdir(mode=mode)
    if os.geteuid() == 0:
        _hand_over(path, user)
    return f"{path}: was made (mode {mode:o}, owner {user.name})."


def _hand_over(folder: Path, user: User) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        inherits = bool(folder.parent.stat().st_mode & stat.S_ISGID)  # the dermoscopes' group keeps its folders
        os.fchown(handle, user.uid, -1 if inherits else user.gid)
    finally:
        os.close(handle)


def _remove(path: Path, user: User) -> str:
    status = path.lstat()
    if status.st_uid not in {0, user.uid, os.geteuid()}:
        raise NotMended(f"{path}: belongs to another user (uid {status.st_uid}): it was left as it is")
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()  # a link goes itself, never what it points to
    return f"{path}: was removed."
