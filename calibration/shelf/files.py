"""Files of the shelf: there whole or not at all, sealed against edits, readable for the agent, one writer at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o750
TEMPORARY: Final = ".part"
LOCK_TIMEOUT_S: Final = 10.0
SEAL: Final = "sha256"
"""The key under which a sealed document carries its own hash."""


class ShelfError(Exception):
    """The shelf, or a document on it, cannot be used: one sentence with the file, what is wrong and what to do."""


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def seal_of(content: Mapping[str, Any], *, leave_out: tuple[str, ...] = ()) -> str:
    """Hex SHA-256 of a document's canonical JSON (sorted keys, no spaces), without its seal and ``leave_out``.

    It finds an edited value; it is no signature, and does not find a forger who computes the hash anew.
    """
    kept = {key: value for key, value in content.items() if key != SEAL and key not in leave_out}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return sha256(text.encode())


def read_json(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """A JSON object from a file; ``what`` and ``remedy`` make the sentence where it cannot be read.

    Raises:
        ShelfError: unreadable, no JSON, no object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ShelfError(f"{path}: {what} cannot be read ({error.strerror}); {remedy}.") from error
    except (ValueError, RecursionError) as error:
        raise ShelfError(f"{path}: {what} is damaged (it is not JSON); {remedy}.") from error
    if not isinstance(content, dict):
        raise ShelfError(f"{path}: {what} is damaged (it is no JSON object); {remedy}.")
    return content


def as_text(content: Mapping[str, Any]) -> bytes:
    """A document as it is written: indented, for people."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, readable for the agent. Raises OSError."""
    missing = [folder, *folder.parents]
    for path in reversed([path for path in missing if not path.exists()]):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        _hand_over(path)


def write_atomically(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Temporary file in the same folder, write, fsync, rename, fsync of the folder. Raises OSError.

    A dot name, so that no reader takes it for the file; one of this process's own, so that no other writer meets it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _hand_over(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock while writing; readers need none, since every file changes by a rename.

    Raises:
        ShelfError: another command has held it for ten seconds.
    """
    make_folder(folder)
    lock = folder / ".lock"
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        _hand_over(lock)
        ends = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise ShelfError(
                        f"{folder}: another calibrate command is writing there; wait for it to end and try again."
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _hand_over(path: Path) -> None:
    """What root makes belongs to the folder's owner: the agent runs as a user of its own and must read it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        with suppress(PermissionError):
            os.chown(path, owner.st_uid, owner.st_gid)
