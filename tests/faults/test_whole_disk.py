"""The whole agent on a disk that is full or broken, and on a database that others hold, read, or have emptied."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.fakes.outside_world import Disk, NoCompiler, OutsideWorld
from tests.faults.whole import WholeAgent, check_books, drop, filed, rows, until, wait_filed

WriteConfig = Callable[..., Path]
SOON = ("agent.upkeep.rounds:UPKEEP_S=0.3", "agent.analysts:FULL_RETRY_S=0.2")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The state folder, on a disk of 96 MiB of its own."""
    state = tmp_path / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m,mode=750", "dermascan-test", str(state)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no small disk can be mounted here: it needs root")
    yield state
    subprocess.run(["umount", "--lazy", str(state)], check=True)  # noqa: S607


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OutsideWorld]:
    try:
        made = OutsideWorld(tmp_path / "world")
    except NoCompiler as error:
        pytest.skip(str(error))
    yield made
    made.close()


def fill(ballast: Path) -> None:
    """To the last byte."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.fault("F06")
def test_a_full_disk_holds_intake_up_and_loses_nothing(
    write_config: WriteConfig, tmp_path: Path, small_disk: Path
) -> None:
    scope, ballast = tmp_path / "scope-1", small_disk / "ballast"
    with WholeAgent(write_config(), *SOON) as agent:
        agent.wait_ready()
        hashes = drop(scope, 1, 2)
        wait_filed(tmp_path, hashes)
        agent.worker().suspend()  # some are in hand when the disk is full, and are answered while it is
        hashes += drop(scope, 3, 4)
        until(lambda: len(rows(tmp_path, "SELECT 1 FROM scans WHERE state = 'received'")) == 2, "two claims")
        fill(ballast)
        agent.worker().resume()
        later = drop(scope, 5, 6, 7)
        until(lambda: "intake is paused" in agent.said or "the store is full" in agent.said, "it holds")
        ballast.unlink()
        wait_filed(tmp_path, [*hashes, *later])
        agent.stop()
    check_books(tmp_path, [*hashes, *later])


@pytest.mark.fault("F06")
@pytest.mark.fault("F11")
@pytest.mark.parametrize(
    ("faults", "part", "error", "every"),
    [
        (Disk.WRITES, "dermascan.db-wal", errno.EIO, 1),
        (Disk.WRITES, "dermascan.db-wal", errno.ENOSPC, 2),
        (Disk.SYNCS, "dermascan.db", errno.EIO, 2),
        (Disk.WRITES | Disk.SHORT, "dermascan.db", 0, 3),
        (Disk.WRITES, "/results/", errno.ENOSPC, 1),
        (Disk.WRITES | Disk.SYNCS | Disk.OPENS, "/results/", errno.EIO, 3),
        (Disk.WRITES | Disk.OPENS, "/analysing/", errno.ENOSPC, 1),
    ],
    ids=["wal-eio", "wal-enospc", "sync-eio", "short", "files-enospc", "files-eio", "notes-enospc"],
)
def test_a_disk_that_fails_for_a_while_loses_nothing(  # noqa: PLR0917
    write_config: WriteConfig, tmp_path: Path, world: OutsideWorld, faults: Disk, part: str, error: int, every: int
) -> None:
    scope = tmp_path / "scope-1"
    with WholeAgent(write_config(), *SOON, environment=world.environment) as agent:
        agent.wait_ready()
        hashes = drop(scope, 0)
        wait_filed(tmp_path, hashes)
        with world.bad_disk(faults, part, error, every):
            hashes += drop(scope, *range(1, 31))
            until(lambda: world.hits >= 5, "calls that fail")
            time.sleep(2.0)  # for most of them it is not over before they were tried
        wait_filed(tmp_path, hashes)
        agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F07")
def test_a_lock_from_outside_delays_and_loses_nothing(write_config: WriteConfig, tmp_path: Path) -> None:
    scope = tmp_path / "scope-1"
    with WholeAgent(write_config()) as agent:
        agent.wait_ready()
        hashes = drop(scope, 1)
        wait_filed(tmp_path, hashes)
        with closing(sqlite3.connect(tmp_path / "state" / "dermascan.db", isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            hashes += drop(scope, *range(2, 12))
            agent.wait_said("locked by another process")
            assert len(filed(tmp_path)) == 1
            outsider.execute("ROLLBACK")
        wait_filed(tmp_path, hashes)
        agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F08")
def test_a_reader_that_does_not_end_is_told_and_the_log_shrinks_after_it(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    scope, wal = tmp_path / "scope-1", tmp_path / "state" / "dermascan.db-wal"
    changes = ("agent.records.checkpoint:WAL_LIMIT_BYTES=65536", "agent.records.checkpoint:WAL_ALARM_BYTES=131072")
    with WholeAgent(write_config(), *changes, "agent.records.checkpoint:IDLE_S=0.2") as agent:
        agent.wait_ready()
        hashes = drop(scope, 1)
        wait_filed(tmp_path, hashes)
        with closing(sqlite3.connect(f"file:{tmp_path / 'state' / 'dermascan.db'}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM scans").fetchone()
            hashes += drop(scope, *range(2, 10))
            wait_filed(tmp_path, hashes)
            agent.wait_said("checkpoint blocked")
            until(lambda: wal.stat().st_size > 131072, "a log that grows behind the reader")
        until(lambda: wal.stat().st_size == 0, "the log is cut after it")
        agent.stop()
    check_books(tmp_path, hashes)


@pytest.mark.fault("F10")
@pytest.mark.parametrize("damage", ["emptied", "gone", "a page overwritten"])
def test_a_damaged_database_is_set_aside_and_every_capture_keeps_its_one_answer(
    write_config: WriteConfig, tmp_path: Path, damage: str
) -> None:
    scope, config, database = tmp_path / "scope-1", write_config(), tmp_path / "state" / "dermascan.db"
    with WholeAgent(config) as agent:
        agent.wait_ready()
        hashes = drop(scope, *range(6))
        wait_filed(tmp_path, hashes)
        agent.stop()
    before = dict(rows(tmp_path, "SELECT scan_id, image_sha256 FROM scans"))
    if damage == "gone":
        database.unlink()
    elif damage == "emptied":
        os.truncate(database, 0)
    else:
        with database.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * 4096)
    with WholeAgent(config) as agent:
        agent.wait_ready()
        hashes += drop(scope, 6)
        wait_filed(tmp_path, hashes)
        assert "is damaged" in agent.said
        agent.stop()
    check_books(tmp_path, hashes)
    after = dict(rows(tmp_path, "SELECT scan_id, image_sha256 FROM scans"))
    assert after.items() >= before.items(), "a capture got another scan's id"
    assert list((tmp_path / "state" / "quarantine").iterdir())


@pytest.mark.fault("F07")
@pytest.mark.fault("F06")
def test_a_verdict_given_while_nothing_can_be_written_is_kept_once_it_can(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    scope, config = tmp_path / "scope-1", write_config()
    with WholeAgent(config) as agent:
        agent.wait_ready()
        wait_filed(tmp_path, drop(scope, 1))
        ((scan_id,),) = rows(tmp_path, "SELECT scan_id FROM scans")
        with closing(sqlite3.connect(tmp_path / "state" / "dermascan.db", isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            command = ["feedback", str(scan_id), "--diagnosis", "melanoma", "--source", "clinician", "--json"]
            said = subprocess.run(
                [sys.executable, "-m", "agent.cli", *command, "--config", str(config)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert json.loads(said.stdout)["recorded"] is False
        until(lambda: rows(tmp_path, "SELECT 1 FROM verdicts"), "the verdict")
        agent.stop()
    assert len(rows(tmp_path, "SELECT 1 FROM outbox WHERE type LIKE '%feedback%'")) == 1
