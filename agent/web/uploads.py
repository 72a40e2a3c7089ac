"""Pictures that came by a request: files of their own before anyone works on them, durable before anyone is answered.

    uploads/<dermoscope>/<sha256>.png (or .jpg)      the picture, named by its content
    uploads/<dermoscope>/<sha256>.json               whose it is, as a sidecar (`agent.intake.sidecar`)

They are captures like those of a folder: the scan's path leads to them, and they stay. What a crash left without an
answer is taken up at the next start, whether or not there is an interface then. Nothing here needs the web's libraries.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.intake.capture import Capture, FileStamp
from agent.intake.entry import ChangedError, read_once
from agent.intake.reasons import Reason, refuse
from agent.records.errors import AlreadyTerminal
from agent.records.results import FILE_MODE, FOLDER_MODE, TEMPORARY, sync_folder
from agent.records.sealing import PLAIN, Seal
from agent.records.sidecars import read_kept_sidecar, sidecar_bytes
from agent.records.space import UPLOADS_DIR
from agent.records.store import Store

log = logging.getLogger(__name__)

SUFFIXES: Final = {"PNG": ".png", "JPEG": ".jpg"}
"""By what the bytes are; nothing else is taken."""
LEFTOVER_S: Final = 60.0
_NAME: Final = re.compile(r"[0-9a-f]{64}\.(png|jpg)")
_SCOPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Uploads:
    """The folder of uploads. Any thread may call it, for one content one at a time."""

    def __init__(self, state_dir: Path, seal: Seal = PLAIN) -> None:
        """``seal``: what sidecars are written and read with."""
        self.folder = state_dir / UPLOADS_DIR
        self._seal = seal

    def keep(self, data: bytes, sha256: str, kind: str, dermoscope_id: str, about: Mapping[str, Any]) -> Capture:
        """Write a picture and whose it is: whole under their names when this returns, durable after `sync`.

        Args:
            data: the picture.
            sha256: of it, in hexadecimal.
            kind: ``PNG`` or ``JPEG``.
            dermoscope_id: whose colours it has.
            about: a sidecar's fields.

        Raises:
            OSError: the disk is full or broken; nothing is left under the final names that was not there.
        """
        folder = self.folder / dermoscope_id
        if not folder.is_dir():
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            sync_folder(self.folder)
        path = folder / f"{sha256}{SUFFIXES[kind]}"
        # Whose it is first: a picture is never there without it.
        _write(path.with_suffix(".json"), sidecar_bytes(about, sha256, self._seal))
        return Capture(path, dermoscope_id, _write(path, data), data, sha256)

    def sync(self, path: Path) -> None:
        """Make durable what was kept. The engine works on the picture meanwhile; nobody is answered before.

        Raises:
            OSError: the disk is full or broken.
        """
        for file in (path.with_suffix(".json"), path):
            handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(path.parent)

    def patient_of(self, sha256: str) -> str | None:
        """Whose a picture is that was kept before; None where none was, or nobody was named."""
        for scope in _folders(self.folder):
            for suffix in SUFFIXES.values():
                path = scope / f"{sha256}{suffix}"
                if path.exists():
                    return read_kept_sidecar(path, self._seal).patient_id
        return None

    def take_up(self, store: Store, deliver: Callable[[Capture], None]) -> int:
        """Deliver what a crash left without an answer, and sweep what it left half written; returns how many.

        Requests may keep pictures meanwhile: whoever comes second finds what the first has done.
        """
        taken = sum(self._take_up(scope, store, deliver) for scope in _folders(self.folder))
        for row in store.unfinished():
            # A power cut may take a picture that was claimed and not yet durable: nobody was answered.
            if row.path.is_relative_to(self.folder) and not row.path.exists():
                gone = refuse(Reason.GONE)
                with suppress(AlreadyTerminal):
                    store.reject(row.scan_id, gone.reason, gone.sentence).result()
        if taken:
            log.info("%d pictures that came by a request before the last end are taken up again", taken)
        return taken

    def _take_up(self, scope: Path, store: Store, deliver: Callable[[Capture], None]) -> int:
        known = store.known(scope.name)
        taken = 0
        for path in _pictures(scope):
            try:
                if known.get(os.fsencode(path)) == FileStamp.of(path.lstat()):
                    continue
                data, stamp = read_once(path)
            except (OSError, ChangedError):
                log.warning("%s: cannot be read; it is left where it is", path)
                continue
            capture = Capture.from_bytes(path, scope.name, stamp, data)
            if capture.sha256 == path.stem:
                deliver(capture)
                taken += 1
            else:  # what a power cut left of it
                _remove_old(path)
                _remove_old(path.with_suffix(".json"))
        return taken


def _write(path: Path, data: bytes) -> FileStamp:
    """Temporary file, write, rename; the stamp of what lies there then."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return FileStamp.of(path.lstat())


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir() and _SCOPE.fullmatch(entry.name)]
    except FileNotFoundError:
        return []


def _pictures(scope: Path) -> Iterator[Path]:
    """The pictures of a scope; what a crash left beside them is removed."""
    names = {path.name for path in scope.iterdir()}
    pictures = {name for name in names if _NAME.fullmatch(name)}
    stems = {name.partition(".")[0] for name in pictures}
    for name in sorted(names - pictures):
        if name.endswith(TEMPORARY) or (name.endswith(".json") and name.removesuffix(".json") not in stems):
            _remove_old(scope / name)
    yield from (scope / name for name in sorted(pictures))


def _remove_old(path: Path) -> None:
    """Remove what a crash left; what is young may be somebody's who is just writing it."""
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > LEFTOVER_S:
            path.unlink()
