"""No readable row is missing from the salvage, wherever a database is damaged (F10).

Held against two judges: every row that lies in no damaged page must come through; and, where a ``sqlite3`` command with
``.recover`` is there (DERMASCAN_SQLITE3 names it), every row that SQLite's own recovery reads as it was.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import pytest

from agent.messages.envelope import Sender
from agent.records.opening import find_damage, open_database
from agent.records.store import Store

PAGE = 4096
SEEDS = 12
ALL_SEEDS = 200
KEYS = {
    "scans": "scan_id",
    "outbox": "event_id",
    "outbox_events": "seq",
    "verdicts": "verdict_id",
    "audit": "hash",
    "sightings": "path_bytes",
}
"""By what a row of a table is known."""
WIDTHS = {23: "scans", 20: "scans", 9: "outbox", 2: "outbox_events", 13: "verdicts", 12: "audit", 8: "sightings"}
SHELL = os.environ.get("DERMASCAN_SQLITE3") or shutil.which("sqlite3")
"""The command whose ``.recover`` the salvage is held against; Debian's own is built without what that needs."""
SENDER = Sender("clinic-1", "device-1", "9.9")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A real database: scans of all kinds with answers of all lengths, verdicts, and rows that were changed often."""
    return make(tmp_path_factory.mktemp("sound"))


def make(folder: Path) -> Path:
    import hashlib
    import json

    from agent.intake.capture import FileStamp
    from agent.intake.reasons import Reason

    chance = random.Random(1)
    with Store.open(folder, "device-1", 256, clinic_id="clinic-1", software_version="9.9") as store:
        for number in range(160):
            sha256 = hashlib.sha256(str(number).encode()).hexdigest()
            place = Path(f"/scope/{number}.jpg")
            scan_id = (
                store.claim(f"sha256:{sha256}", sha256, place, "s", FileStamp(1, number, 3, 4, 5)).result(10).scan_id
            )
            if number % 9 == 0:
                store.reject(scan_id, Reason.GONE, "It is gone.").result(10)
                continue
            if number % 11 == 0:
                continue
            answer = {
                "diagnosis": {"primary": "melanoma", "melanoma_risk": 0.5},
                "operating": {"suspicious": True},
                "model_version": "demo/1",
                "attention_map": "A" * chance.randrange(10, 20_000),
                "patient_id": None,
            }
            about = {"patient_id": f"P-{number}"} if number % 2 else {}
            store.answer(scan_id, json.dumps(answer), "cpu", about).result(10)
            if number % 4 == 0:
                store.verdict(scan_id, "melanoma", "clinician", "Kim", "x" * chance.randrange(200)).result(10)
        events = [row.event_id for row in store.outbox_due(1000, fresh_after_seq=0)]
        store.outbox_acknowledge(events[::3]).result(10)
    return folder / "dermascan.db"


def originals(path: Path) -> dict[str, dict[object, tuple]]:
    """Every row of the sound database by its key."""
    with closing(sqlite3.connect(path)) as db:
        return {table: keyed(db, table) for table in KEYS}


def keyed(db: sqlite3.Connection, table: str) -> dict[object, tuple]:
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    if not names:
        return {}
    place = names.index(KEYS[table])
    return {row[place]: row for row in db.execute(f"SELECT * FROM {table}")}  # noqa: S608


def damage(path: Path, seed: int) -> None:
    """Zero, overwrite or garble pages at random; the first one and the trees' inner ones as well."""
    chance = random.Random(seed)
    content = bytearray(path.read_bytes())
    count = len(content) // PAGE
    for page in chance.sample(range(count), chance.choice((1, 2, 4, 8))):
        start, how = page * PAGE, chance.randrange(4)
        if how == 0:
            content[start : start + PAGE] = bytes(PAGE)
        elif how == 1:
            content[start : start + PAGE] = chance.randbytes(PAGE)
        elif how == 2:
            for _ in range(chance.choice((1, 8, 64))):
                content[start + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
        else:
            where = start + chance.choice((0, 0, 8, chance.randrange(PAGE)))
            content[where : where + 16] = b"\xff" * 16
    path.write_bytes(content)


def places(sound: Path) -> dict[tuple[str, object], frozenset[int]]:
    """Which pages each row lies in: its leaf and its overflow. SQLite tells (``dbstat``), no reading of ours."""
    found = {}
    with closing(sqlite3.connect(sound)) as db:
        for table, key in KEYS.items():
            keys = [row[0] for row in db.execute(f"SELECT {key} FROM {table} ORDER BY rowid")]  # noqa: S608
            pages = list(
                db.execute("SELECT path, pageno, pagetype, ncell FROM dbstat WHERE name = ? ORDER BY path", (table,))
            )
            overflow: dict[str, set[int]] = {}
            for path, number, kind, _ in pages:
                if kind == "overflow":
                    overflow.setdefault(path.partition("+")[0], set()).add(number)
            at = 0
            for path, number, kind, cells in pages:
                for cell in range(cells if kind == "leaf" else 0):
                    pages_of = overflow.get(f"{path}{cell:03x}", set())
                    found[table, keys[at]] = frozenset({number, *pages_of})
                    at += 1
            assert at == len(keys)
    return found


def damaged_pages(sound: Path, damaged: Path) -> set[int]:
    one, other = sound.read_bytes(), damaged.read_bytes()
    return {at // PAGE + 1 for at in range(0, len(one), PAGE) if one[at : at + PAGE] != other[at : at + PAGE]}


def recovered(path: Path, originals: dict[str, dict[object, tuple]]) -> set[tuple[str, object]]:
    """The rows that ``sqlite3 .recover`` reads as they were, by table and key, with those whose table it lost."""
    assert SHELL is not None
    told = subprocess.run([SHELL, str(path), ".recover"], capture_output=True, check=False).stdout
    found: set[tuple[str, object]] = set()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        run_what_runs(db, told.decode("utf-8", "replace"))
        for table in KEYS:
            with suppress(sqlite3.Error):
                found |= {(table, key) for key, row in keyed(db, table).items() if originals[table].get(key) == row}
        lost = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'lost_and_found%'")]
        for name in lost:
            for _, _, width, rowid, *values in db.execute(f"SELECT * FROM {name}"):  # noqa: S608
                found |= known_as(originals, width, rowid, values)
    return found


def run_what_runs(db: sqlite3.Connection, sql: str) -> None:
    """Statement by statement: damage makes some of them fail."""
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if line.endswith(";\n") and sqlite3.complete_statement(pending):
            with suppress(sqlite3.Error):
                db.execute(pending)
            pending = ""


def known_as(originals, width: int, rowid: int, values: list) -> set[tuple[str, object]]:
    """The row of ours that a record without a table is."""
    table = WIDTHS.get(width)
    if table is None:
        return set()
    row = tuple(values[:width] if table == "sightings" else [rowid, *values[1:width]])
    return {(table, key) for key, original in originals[table].items() if original[: len(row)] == row}


class Lost(Exception):
    """A row that could have been salvaged."""


def check(sound: Path, folder: Path, seed: int, before: dict[str, dict[object, tuple]], where) -> tuple[int, int, int]:
    """One damage; how many rows lie in no damaged page, how many SQLite recovers, and how many we do."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "dermascan.db"
    shutil.copyfile(sound, path)
    damage(path, seed)
    gone = damaged_pages(sound, path)
    untouched = {row for row, pages in where.items() if not pages & gone}
    theirs = recovered(path, before) if SHELL is not None and can_recover() else set()
    damaged = find_damage(path, "device-1", ours=True)
    open_database(folder, SENDER, 256).close()
    assert damaged is None or (folder / "quarantine" / "1" / "SALVAGED").exists()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        db.text_factory = lambda data: data.decode("utf-8", "replace")  # no check sees what a long text holds
        ours = {
            (table, key) for table in KEYS for key, row in keyed(db, table).items() if before[table].get(key) == row
        }
        # An event is built again from its scan, but for how often it was tried and whether it has arrived.
        ours |= {("outbox", row[0]) for row in db.execute("SELECT event_id FROM outbox")}
        # A sighting says nothing but which scan a file is: where that one is lost, the file is read again.
        left = {row[0] for row in db.execute("SELECT scan_id FROM scans")}
        ours |= {("sightings", key) for key, row in before["sightings"].items() if row[-1] not in left}
    if missing := sorted((untouched | theirs) - ours, key=str):
        raise Lost(f"seed {seed} ({damaged}): {len(missing)} rows, among them {missing[:3]}")
    return len(untouched), len(theirs), len(ours & set(where))


@cache
def can_recover() -> bool:
    told = subprocess.run(
        [SHELL or "", ":memory:", "SELECT count(*) FROM sqlite_dbpage"], capture_output=True, check=False
    )
    return told.returncode == 0


def run_all(sound: Path, tmp_path: Path, seeds: range) -> None:
    before, where = originals(sound), places(sound)
    figures = [check(sound, tmp_path / "state", seed, before, where) for seed in seeds]
    untouched, theirs, ours = (sum(column) for column in zip(*figures, strict=True))
    total = len(seeds) * len(where)
    print(f"{len(seeds)} damages of {total} rows: {untouched} in no damaged page; SQLite recovers {theirs}, we {ours}")
    assert 0.5 * total < untouched < total, "some must be damaged, and most must not"


@pytest.mark.fault("F10")
def test_every_row_that_is_readable_is_salvaged(sound, tmp_path):
    run_all(sound, tmp_path, range(SEEDS))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.fault("F10")
def test_every_row_that_is_readable_is_salvaged_at_length(sound, tmp_path):
    run_all(sound, tmp_path, range(SEEDS, ALL_SEEDS))
