"""The dermoscopes' folders: there, readable for the agent, the right one, and what lies in them that is no capture."""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.doctor.finding import Check, Finding, Kind, Mend, failed, ok, warning
from agent.doctor.patience import TooLong, within
from agent.doctor.place import Place, octal
from agent.intake.folder_identity import MARKER, needs_polling
from agent.sections import DermoscopeSection

PATIENCE_S: Final = 8.0
MANY: Final = 100_000
"""Files in one folder from which on each look through it costs noticeable time."""
_COUNTING_S: Final = 4.0
_CAPTURES_MODE: Final = 0o770
_ODD: Final = {
    stat.S_IFLNK: ("links", "l"),
    stat.S_IFIFO: ("pipes", "p"),
    stat.S_IFSOCK: ("sockets", "s"),
    stat.S_IFBLK: ("devices", "b"),
    stat.S_IFCHR: ("devices", "c"),
}


def look(place: Place) -> Iterator[Finding]:
    """One folder that hangs hides no other one."""
    for scope in place.config.dermoscopes:
        try:
            yield from within(PATIENCE_S, lambda scope=scope: list(_folder(place, scope)))  # type: ignore[misc]
        except TooLong:
            yield failed(
                f"The folder of {scope.id} does not answer: {scope.folder}.",
                "a network share or a disk is away: see to its cable and its server, then restart the device",
            )


def _folder(place: Place, scope: DermoscopeSection) -> Iterator[Finding]:
    folder, quoted = scope.folder, shlex.quote(str(scope.folder))
    share = _share(place.root / "etc/fstab", folder)
    if share is not None and not os.path.ismount(share):
        yield failed(f"The share of {scope.id} is not there: {share} is not mounted.", f"run: sudo mount {share}")
        return
    try:
        status = folder.stat()
    except FileNotFoundError:
        yield failed(
            f"The folder of {scope.id} is missing: {folder}. Its captures cannot be seen.",
            f"if the name is right, run: sudo install -d -m 770 -o {place.user.name} {quoted}",
            Mend(Kind.MAKE_FOLDER, str(folder), _CAPTURES_MODE) if share is None else None,
        )
        return
    except PermissionError:
        yield failed(f"The folder of {scope.id} cannot be looked at: {folder}.", "run this as root (sudo)")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield failed(
            f"The folder of {scope.id} is no folder: {folder}.", f"move it away, and make one: mkdir -p {quoted}"
        )
        return
    found = [*_rights(place, scope, status), *_marker(scope), *_content(scope)]
    far = " (network share, looked through every second)" if needs_polling(folder) else ""
    yield from found or [ok(f"The folder of {scope.id} is there and can be read{far}.")]


def _rights(place: Place, scope: DermoscopeSection, status: os.stat_result) -> Iterator[Finding]:
    folder, quoted = scope.folder, shlex.quote(str(scope.folder))
    if not place.user.may(status, 0o5):
        yield failed(
            f"The agent's user ({place.user.name}) may not read the folder of {scope.id} (mode {octal(status)}).",
            f"run: sudo setfacl -m u:{place.user.name}:rx {quoted}, or sudo chgrp {place.user.name} {quoted} and "
            f"sudo chmod g+rx {quoted}",
        )
    closed = next((one for one in reversed(folder.parents) if not place.user.may(one.stat(), 0o1)), None)
    if closed is not None:
        yield failed(
            f"The agent's user ({place.user.name}) cannot reach the folder of {scope.id}: {closed} is closed to it.",
            f"run: sudo chmod o+x {shlex.quote(str(closed))}",
        )
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(status.st_mode) & ~stat.S_IWOTH
        yield warning(
            f"Everybody on this machine may put pictures into the folder of {scope.id} (mode {octal(status)}).",
            f"put the dermoscope's user into the folder's group, then run: sudo chmod {mode:o} {quoted}",
        )
    if folder.is_symlink():
        target = folder.resolve()
        yield warning(f"The folder of {scope.id} is a link to {target}.", f"name {target} itself in the settings")


def _marker(scope: DermoscopeSection) -> Iterator[Finding]:
    """As the agent reads it (F03); a pipe in its place is not waited for."""
    marker = scope.folder / MARKER
    try:
        handle = os.open(marker, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    with os.fdopen(handle, "rb") as file:
        told = file.read(256).decode("utf-8", "replace").strip() if stat.S_ISREG(os.fstat(handle).st_mode) else ""
    if told not in {"", scope.id}:
        yield failed(
            f"The folder of {scope.id} is marked as the one of {told[:64]!r}: two folders may have been exchanged.",
            f"look at the settings; if the folder is the right one, run: rm {shlex.quote(str(marker))}",
        )


def _content(scope: DermoscopeSection) -> Iterator[Finding]:
    """What is counted is never named: a file's name may be a patient's (F30)."""
    quoted = shlex.quote(str(scope.folder))
    odd: Counter[int] = Counter()
    ends, files, strange = time.monotonic() + _COUNTING_S, 0, 0
    try:
        with os.scandir(scope.folder) as entries:
            for entry in entries:
                files += 1
                strange += not entry.name.isprintable()
                if not entry.is_file(follow_symlinks=False) and not entry.is_dir(follow_symlinks=False):
                    odd[stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)] += 1
                if files > MANY or (files % 1000 == 0 and time.monotonic() > ends):
                    break
    except OSError as error:
        yield failed(f"The folder of {scope.id} cannot be listed ({error.strerror}).", "run this as root (sudo)")
        return
    for kind, count in odd.items():
        what, letter = _ODD.get(kind, ("strange files", "f"))
        yield warning(
            f"The folder of {scope.id} holds {count} {what}: the agent does not follow them, and no dermoscope makes "
            "them.",
            f"find out who put them there: find {quoted} -maxdepth 1 -type {letter} -ls",
        )
    if strange:
        yield warning(
            f"The folder of {scope.id} holds {strange} names with characters that cannot be shown.",
            f"look at them: ls -lb {quoted}",
        )
    if files > MANY or time.monotonic() > ends:
        yield warning(
            f"The folder of {scope.id} holds more than {min(files, MANY)} files: each look through it is slow.",
            "move captures that were answered long ago into a folder elsewhere; the agent never does that",
        )


def _share(fstab: Path, folder: Path) -> Path | None:
    """The place of a share or a disk in ``fstab`` that the folder lies in; the root is none."""
    try:
        lines = fstab.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    fields = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    places = [Path(one[1].replace("\\040", " ")) for one in fields if len(one) > 1 and one[1].startswith("/")]
    inside = [one for one in places if one != Path("/") and (one == folder or one in folder.parents)]
    return max(inside, key=lambda one: len(one.parts), default=None)


CHECK = Check(
    name="captures",
    title="Dermoscopes' folders",
    looks_at="each dermoscope's folder: there, mounted, readable, its marker, links, devices, names, number of files",
    why="A picture that the agent cannot see is never answered; a strange file may be an attack.",
    look=look,
    limit_s=60.0,
    hung="a network share or a disk is away: see to its cable and its server, then restart the device",
)
