"""A power cut at any write or sync loses nothing that was committed (F11), by a disk that forgets what is not synced.

The very statements of ``scans.py`` run through apsw on a virtual file system in memory. At the cut each file falls back
to its last sync, plus any of the sectors written since, as a disk may have got to them in any order. That the harness
can see a loss is shown with ``synchronous`` NORMAL and OFF, which lose.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw
import pytest

from agent.intake.capture import FileStamp
from agent.messages.envelope import Sender
from agent.records import scans
from agent.records.schema import STEPS

SECTOR = 512
SENDER = Sender("clinic-1", "device-1", "9.9")
CUTS = 240


class PowerCutError(apsw.IOError):
    """The fuse blew."""


@dataclass
class Platter:
    """One file: what is durable, and what was written since the last sync."""

    durable: bytearray = field(default_factory=bytearray)
    live: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes] | int] = field(default_factory=list)
    """(offset, data) of a write, or the new length of a truncation."""


def apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        return
    offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """All files, and a fuse that blows after so many writes and syncs."""

    def __init__(self) -> None:
        self.files: dict[str, Platter] = {}
        self.fuse = 10**9

    def burn(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            raise PowerCutError

    def copy(self) -> Disk:
        disk = Disk()
        disk.files = {name: Platter(bytearray(p.live), bytearray(p.live)) for name, p in self.files.items()}
        return disk

    def cut(self, chance: random.Random) -> None:
        """Everything not synced is gone, but for sectors that happened to be written."""
        kept = chance.choice((0.0, 0.3, 0.9))
        for platter in self.files.values():
            for change in platter.unsynced:
                for part in sectors(change):
                    if chance.random() < kept:
                        apply(platter.durable, part)
            platter.live = bytearray(platter.durable)
            platter.unsynced = []
        self.fuse = 10**9


def sectors(change: tuple[int, bytes] | int) -> list[tuple[int, bytes] | int]:
    if isinstance(change, int):
        return [change]
    offset, data = change
    parts: list[tuple[int, bytes] | int] = []
    start = 0
    while start < len(data):
        end = min(len(data), start + SECTOR - (offset + start) % SECTOR)
        parts.append((offset + start, data[start:end]))
        start = end
    return parts


class Handle:
    """An open file of a ``Disk``, with the methods that SQLite calls."""

    def __init__(self, disk: Disk, platter: Platter) -> None:
        self._disk, self._platter = disk, platter

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self._platter.live[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.burn()
        change = (offset, bytes(data))
        apply(self._platter.live, change)
        self._platter.unsynced.append(change)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.burn()
        apply(self._platter.live, size)
        self._platter.unsynced.append(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.burn()
        for change in self._platter.unsynced:
            apply(self._platter.durable, change)
        self._platter.unsynced = []

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._platter.live)

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xLock(self, level: int) -> None: ...  # noqa: N802

    def xUnlock(self, level: int) -> None: ...  # noqa: N802

    def xClose(self) -> None: ...  # noqa: N802


class DiskFiles(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("power-cut", base="")

    def xOpen(self, name, flags):  # noqa: N802
        path = name if isinstance(name, str) or name is None else name.filename()
        flags[1] = flags[0]
        return Handle(self._disk, self._disk.files.setdefault(path or "temporary", Platter()))

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xAccess(self, name: str, flags: int) -> bool:  # noqa: N802
        return name in self._disk.files

    def xDelete(self, name: str, sync_folder: bool) -> None:  # noqa: N802
        self._disk.burn()
        del self._disk.files[name]


def connect(synchronous: str) -> apsw.Connection:
    db = apsw.Connection("/scans.db", vfs="power-cut")
    db.execute("PRAGMA locking_mode = EXCLUSIVE")  # there is no shared memory in this file system
    assert db.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA foreign_keys = ON")
    return db


@pytest.fixture(scope="module")
def made() -> Disk:
    """A disk with the tables on it."""
    disk = Disk()
    files = DiskFiles(disk)
    db = connect("FULL")
    for _, statements in STEPS:
        for statement in statements:
            db.execute(statement)
    db.close()
    files.unregister()
    return disk


@dataclass
class Promised:
    """What COMMIT returned for."""

    claimed: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)


def commit(db: apsw.Connection, step: Callable[[], object]) -> None:
    db.execute("BEGIN IMMEDIATE")
    step()
    db.execute("COMMIT")


def live_until_the_cut(db: apsw.Connection, promised: Promised, chance: random.Random) -> None:
    template = scans.Received("", None, Path(), "scope", FileStamp(1, 2, 3, 4, 5), "2026", "boot", 1, True)
    for number in range(12):
        scan_id = scans.scan_id_of(SENDER.device_id, f"sha256:{number}")
        received = replace(template, identity=f"sha256:{number}", path=Path(f"/{number}.jpg"))
        commit(db, lambda received=received: scans.claim(db, SENDER.device_id, received))
        promised.claimed.add(scan_id)
        if chance.random() < 0.3:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        text = json.dumps({"scan_id": scan_id, "attention_map": "A" * chance.randrange(9000)})
        commit(
            db,
            lambda scan_id=scan_id, text=text: scans.answer(
                db, SENDER, scan_id, answer_json=text, backend="cpu", metadata={}, finished_at="2026"
            ),
        )
        promised.finished.add(scan_id)


def losses(made: Disk, synchronous: str, seed: int) -> tuple[int, int]:
    """One life, one cut: (promises made, promises broken); a file that cannot be read breaks them all."""
    chance = random.Random(seed)
    disk = made.copy()
    files = DiskFiles(disk)
    promised = Promised()
    try:
        db = connect(synchronous)
        disk.fuse = chance.randrange(1, 500)
        with suppress(apsw.Error):
            live_until_the_cut(db, promised, chance)
        disk.fuse = -1  # nothing written by closing may count
        with suppress(apsw.Error):
            db.close(force=True)
        disk.cut(chance)
        total = len(promised.claimed) + len(promised.finished)
        try:
            db = connect(synchronous)
            if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return total, total
            there = dict(db.execute("SELECT scan_id, state FROM scans").fetchall())
            posted = [row[0] for row in db.execute("SELECT scan_id FROM outbox").fetchall()]
            db.close()
        except apsw.Error:
            return total, total
        answered = {scan_id for scan_id, state in there.items() if state == "answered"}
        assert sorted(posted) == sorted(answered), "an answer and its event came apart"
        assert len(there) <= len(promised.claimed) + 1
        return total, len(promised.claimed - set(there)) + len(promised.finished - answered)
    finally:
        files.unregister()


@pytest.mark.fault("F11")
def test_full_keeps_every_promise_through_every_cut(made):
    outcomes = [losses(made, "FULL", seed) for seed in range(CUTS)]
    assert sum(promised for promised, _ in outcomes) > 5 * CUTS, "the cuts came too early to mean anything"
    assert [seed for seed, (_, broken) in enumerate(outcomes) if broken] == []


@pytest.mark.fault("F11")
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_less_than_full_breaks_promises(made, synchronous):
    """So that the test above is known to be able to fail."""
    outcomes = [losses(made, synchronous, seed) for seed in range(40)]
    assert sum(broken > 0 for _, broken in outcomes) >= 20
