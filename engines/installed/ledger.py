"""``active.json`` in the models folder: the activation's state, changed by one process at a time, in one step (F27)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from engines.backend import BundleError
from engines.files import read_small, write_atomically
from engines.installed.activation import Activation

LEDGER_NAME: Final = "active.json"
LOCK_NAME: Final = ".active.lock"
_MAX_BYTES: Final = 1 << 20

Stamp = tuple[int, int, int]
"""Of the file as it was looked at: inode, size, modification time in ns. Every change makes another file."""


class Ledger:
    """The activation of one models folder. Cheap to make; holds nothing open."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.path = models / LEDGER_NAME

    def read(self) -> Activation:
        """The state now; without a file, that nothing was ever activated.

        Raises:
            BundleError: the file cannot be read or understood. It is never taken for an empty one.
        """
        try:
            text = read_small(self.path, _MAX_BYTES)
        except FileNotFoundError:
            return Activation()
        except OSError as error:
            raise BundleError(f"{self.path}: cannot be read ({error.strerror}); mend its permissions") from error
        try:
            return Activation.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
            raise BundleError(
                f"{self.path}: {key}: {first['msg']}; the file was damaged: move it away and activate a bundle anew"
            ) from error

    def stamp(self) -> Stamp | None:
        """Changes whenever the state does; None where there is no file. Costs one look at the file's entry."""
        try:
            entry = self.path.stat()
        except OSError:
            return None
        return entry.st_ino, entry.st_size, entry.st_mtime_ns

    def change(self, step: Callable[[Activation], Activation]) -> Activation:
        """Take a step: read the state, apply ``step``, write what it gives, all while nobody else may.

        Raises:
            BundleError: the state cannot be read or written; or what ``step`` raises. The state is then as it was.
        """
        with self.locked():
            before = self.read()
            after = step(before)
            if after != before:
                try:
                    write_atomically(self.path, (after.model_dump_json(indent=2) + "\n").encode())
                except OSError as error:
                    raise BundleError(
                        f"{self.path}: cannot be written ({error.strerror}); the active bundle is as it was"
                    ) from error
        return after

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock; it ends with the process, however that ends.

        Raises:
            BundleError: the models folder cannot be used.
        """
        try:
            handle = os.open(self.models / LOCK_NAME, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BundleError(
                f"{self.models}: the models folder cannot be used ({error.strerror}); make it, or mend its permissions"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
