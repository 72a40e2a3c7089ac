"""Files that only the agent's user may read: written whole, one writer at a time, believed only with the right mode."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
LARGEST_BYTES: Final = 4 * 1024 * 1024
LOCK_TIMEOUT_S: Final = 10.0

Stamp: TypeAlias = "tuple[int, ...] | None"
"""What changes whenever a file does; None: there is none."""


class AccessError(Exception):
    """A file that says who may is not to be believed, or cannot be written: one sentence with what to do."""


def stamp_of(path: Path) -> Stamp:
    """The file's stamp, mode and owner included: one call of stat. Raises OSError where it cannot be looked at."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )


def read_private(path: Path) -> bytes | None:
    """The content of a file that nobody else can have read or written; None where there is none.

    Raises:
        AccessError: others may read or write it or its folder, it is another user's, or it is no plain file.
    """
    try:
        _check_folder(path.parent)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_file(path, os.fstat(handle))
            content = _read(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise AccessError(f"{path}: belongs to another user: chown {os.geteuid()} {path.parent} {path}") from error
    except OSError as error:
        why = "is a link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
        raise AccessError(f"{path}: {why}: move it away; dermascan token create makes a new one") from error
    if len(content) > LARGEST_BYTES:
        raise AccessError(f"{path}: has more than {LARGEST_BYTES} bytes, so it is none of ours: move it away")
    return content


def write_private(path: Path, data: bytes) -> None:
    """Temporary file in the same folder, write, fsync, rename, fsync of the folder. Raises AccessError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        make_folder(path.parent)
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, FILE_MODE)
                file.write(data)
                file.flush()
                os.fsync(handle)
            _hand_over(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise AccessError(
            f"{path}: cannot be written ({error.strerror}): run this as the agent's user or as root, "
            "and see that the disk has room"
        ) from error


def make_folder(folder: Path) -> None:
    """Make the folder, and the one above it, where missing. Raises OSError."""
    if not folder.parent.exists():
        folder.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if not folder.exists():
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        _hand_over(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while reading and writing. Who only reads needs none: a file changes by a rename.

    Raises:
        AccessError: somebody has held it for ten seconds, or the folder cannot be written.
    """
    lock = folder / ".lock"
    try:
        make_folder(folder)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise AccessError(
            f"{lock}: cannot be written ({error.strerror}): run this as the agent's user or as root"
        ) from error
    try:
        with suppress(OSError):
            _hand_over(lock)
        ends = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise AccessError(f"{folder}: another command writes there: wait for its end, try again") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _check_folder(folder: Path) -> None:
    status = folder.stat()
    _check_owner(folder, status)
    if status.st_mode & 0o022:
        raise AccessError(
            f"{folder}: others may write there (mode {stat.S_IMODE(status.st_mode):04o}): chmod 700 {folder}; then "
            "look whether each token is yours (dermascan token list)"
        )


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise AccessError(f"{path}: is no plain file: move it away; dermascan token create makes a new one")
    _check_owner(path, status)
    if status.st_mode & 0o077:
        raise AccessError(
            f"{path}: others may use it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600 {path}; if it was like "
            "this for long, replace every token in it"
        )


def _read(handle: int) -> bytes:
    content = b""
    while len(content) <= LARGEST_BYTES and (more := os.read(handle, LARGEST_BYTES + 1 - len(content))):
        content += more
    return content


def _check_owner(path: Path, status: os.stat_result) -> None:
    ours = os.geteuid()
    # A command may run as root on the agent's files; the agent never on anybody else's.
    if ours not in {0, status.st_uid} and status.st_uid != 0:
        raise AccessError(f"{path}: belongs to another user (uid {status.st_uid}): chown {ours} {path}")


def _hand_over(path: Path) -> None:
    """What root makes belongs to the owner of the folder above, or the agent could not read it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
