"""No row that SQLite's own recovery can read is missing from the salvage, wherever a database is damaged (F10)."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.messages.catalogue import GROUND_TRUTH
from agent.records import opening, pages
from agent.records.opening import find_damage, open_database
from agent.records.messages import Sender
from agent.records.schema import SCHEMA_VERSION
from agent.records.store import Store

PAGE = 4096
SEEDS = 40
ALL_SEEDS = 200
KEYS = {"scans": "scan_id", "outbox": "event_id", "verdicts": "verdict_id", "audit": "hash", "sightings": "path_bytes"}
"""By what a row of a table is known."""
WIDTHS = {23: "scans", 20: "scans", 10: "outbox", 13: "verdicts", 12: "audit", 8: "sightings"}
SENDER = Sender("clinic-1", "device-1", "9.9")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A real database: scans of all kinds with answers of all lengths, verdicts, and rows that were changed often."""
    from tests.records.conftest import CLASSES  # noqa: F401 - the module must be importable as a package

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


def recovered(path: Path, originals: dict[str, dict[object, tuple]]) -> Iterator[tuple[str, object]]:
    """The rows that ``sqlite3 .recover`` reads as they were, by table and key, with those whose table it lost."""
    told = subprocess.run(["sqlite3", str(path), ".recover"], capture_output=True, check=False).stdout
    with closing(sqlite3.connect(":memory:")) as db:
        db.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        sql = told.decode("utf-8", "surrogateescape")
        statements: list[str] = []
        for line in sql.split(";\n"):  # one by one: damage makes some of them fail
            statements.append(line)
            statement = ";\n".join(statements)
            if sqlite3.complete_statement(statement + ";"):
                statements = []
                try:
                    db.execute(statement.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
                except sqlite3.Error:
                    continue
        db.text_factory = str
        for table in KEYS:
            try:
                yield from ((table, key) for key, row in keyed(db, table).items() if originals[table].get(key) == row)
            except sqlite3.Error:
                continue
        lost = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'lost_and_found%'")]
        for name in lost:
            for _, _, width, rowid, *values in db.execute(f"SELECT * FROM {name}"):  # noqa: S608
                table = WIDTHS.get(width)
                if table is None:
                    continue
                row = tuple([rowid, *values[1:width]] if table != "sightings" else values[:width])
                for key, original in originals[table].items():
                    if original[: len(row)] == row:
                        yield table, key


def losses(sound: Path, folder: Path, seed: int, before: dict[str, dict[object, tuple]]) -> tuple[int, int, list[str]]:
    """One damage: (rows that SQLite recovers, rows that we do, what only SQLite recovers)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "dermascan.db"
    shutil.copyfile(sound, path)
    damage(path, seed)
    theirs = set(recovered(path, before))
    damaged = find_damage(path, "device-1")
    open_database(folder, SENDER, 256).close()
    assert damaged is None or (folder / "quarantine" / "1" / "SALVAGED").exists()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ours = {
            (table, key) for table in KEYS for key, row in keyed(db, table).items() if before[table].get(key) == row
        }
        # An event is built again from its scan, to the byte but for how often it was tried and whether it has arrived.
        events = {row[0] for row in db.execute("SELECT event_id FROM outbox")}
        ours |= {("outbox", key) for key in before["outbox"] if key in events}
    return len(theirs), len(ours), [f"{seed}: {table} {key!r}" for table, key in sorted(theirs - ours, key=str)]


def compare(sound: Path, tmp_path: Path, seeds: range) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("needs the sqlite3 command (its .recover is what the salvage is held against)")
    before = originals(sound)
    theirs = ours = 0
    missing = []
    for seed in seeds:
        one, other, lost = losses(sound, tmp_path / "state", seed, before)
        theirs, ours, missing = theirs + one, ours + other, missing + lost
    total = len(seeds) * sum(map(len, before.values()))
    print(f"{len(seeds)} damages, {total} rows: SQLite recovers {theirs}, the salvage {ours}")
    assert theirs > 0.5 * total, "the damage must leave something to recover"
    assert missing == []


@pytest.mark.fault("F10")
def test_every_row_that_sqlite_recovers_is_salvaged(sound, tmp_path):
    compare(sound, tmp_path, range(SEEDS))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.fault("F10")
def test_every_row_that_sqlite_recovers_is_salvaged_at_length(sound, tmp_path):
    compare(sound, tmp_path, range(SEEDS, ALL_SEEDS))
