"""Packs the support bundle: gathers, takes out what must stay here, looks again, and only then writes the file."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.doctor.examination import CHECKS, examine
from agent.doctor.place import Place, open_place
from agent.doctor.report import as_json, lines
from agent.doctor.support.canaries import Canaries, collect
from agent.doctor.support.content import texts
from agent.doctor.support.redaction import Redactor

LARGEST_TEXT: Final = 8 << 20
_HASH: Final = re.compile(r"\b[0-9a-f]{64}\b")
_README: Final = """\
A support bundle of DermaScan Edge.

What is in it: what the doctor finds, the settings, versions, the machine, the service, its log, figures of the
database, the model, the certificates' dates. What is not in it, and was looked for in everything that is: patients'
numbers and names, names of captures, passwords, keys, tokens, names of people who work with the device. In their place
stands [removed]; long hashes are shortened. Names and numbers of fewer than four letters are not looked for.
"""


class CannotPack(Exception):
    """No bundle was written; one sentence why, and what to do."""


@dataclass(frozen=True)
class Packed:
    """A bundle that was written."""

    path: Path
    bytes: int
    names: tuple[str, ...]
    removed: int
    """How often something was taken out."""


def pack(config_file: Path, to: Path | None = None, *, checks: str = CHECKS) -> Packed:
    """Write a bundle that only this user can read.

    Raises:
        CannotPack: it cannot be written, or what must stay here could not be read and so not looked for.
    """
    place = open_place(config_file.absolute())
    canaries = collect(place.settings) if place.settings is not None else Canaries(frozenset(), frozenset())
    if canaries.blind:
        what = "; ".join(canaries.blind)
        raise CannotPack(
            f"what must stay on this device cannot be read, to be looked for: {what}. Run it as root (sudo)"
        )
    raw = _gather(place, checks)
    redactor = Redactor(
        canaries,
        [(scope.id, scope.folder) for scope in place.settings.dermoscopes] if place.settings else [],
        _HASH.findall(raw.get("model.json", "")),
    )
    clean = {name: redactor.clean(text) for name, text in raw.items()}
    content = {"README.txt": _README, **clean}
    if left := [name for name, text in content.items() if name != "README.txt" and redactor.left(text)]:
        raise CannotPack(
            f"{', '.join(left)}: holds what must stay on this device; nothing was written. Tell who made this"
        )
    path = (to or _usual_name()).absolute()
    _write(path, content)
    return Packed(path, path.stat().st_size, tuple(content), redactor.removed)


def _gather(place: Place, checks: str) -> dict[str, str]:
    examination = examine(place.config_file, checks=checks)
    raw = {
        "doctor.txt": "\n".join(lines(examination)) + "\n",
        "doctor.json": json.dumps(as_json(examination), indent=2, ensure_ascii=False) + "\n",
    }
    for name, make in texts(place):
        try:
            raw[name] = make()
        except Exception as error:  # noqa: BLE001 - a supporter needs the rest most when something is broken
            raw[name] = f"could not be gathered: {type(error).__name__}: {error}\n"
    return {name: text[-LARGEST_TEXT:] for name, text in raw.items()}


def _usual_name() -> Path:
    return Path(f"dermascan-support-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.tar.gz")


def _write(path: Path, content: dict[str, str]) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise CannotPack(f"{path}: is there already; name another file with --to FILE") from error
    except OSError as error:
        raise CannotPack(f"{path}: cannot be written ({error.strerror}); name another file with --to FILE") from error
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in content.items():
                data = text.encode("utf-8", "replace")
                entry = tarfile.TarInfo(f"dermascan-support/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(data))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
