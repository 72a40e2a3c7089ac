"""SIGKILL while the store commits and writes files: what it promised is there, once, and no file is half (F11)."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from agent.records.results import open_results

PNG_BYTES = 150_000
WORKER = """
import json, sys, threading

PNG_BYTES = 150_000
from pathlib import Path
from agent.intake.capture import FileStamp
from agent.records.results import write_results
from agent.records.store import Store

store = Store.open(Path(sys.argv[1]), "device-1", 256, clinic_id="clinic-1", software_version="9.9")
say = threading.Lock()

def work(lane):
    number = 0
    while True:
        identity, path = f"sha256:{sys.argv[2]}-{lane}-{number}", Path(f"/{lane}/{number}.jpg")
        scan_id = store.claim(identity, None, path, "s", FileStamp(1, 2, 3, 4, 5)).result().scan_id
        store.answer(scan_id, json.dumps({"scan_id": scan_id, "attention_map": "A" * 9000}), "cpu").result()
        with say:
            print(scan_id, flush=True)
        write_results(store.results_folder, scan_id, store.result_bytes(scan_id), bytes([number % 251]) * PNG_BYTES)
        store.files_written(scan_id).result()
        number += 1

lanes = [threading.Thread(target=work, args=(lane,)) for lane in range(3)]
[lane.start() for lane in lanes]
"""


@pytest.mark.fault("F11")
def test_killed_while_working(state_dir, open_store):
    promised: list[str] = []
    chance = random.Random(3)
    for life in range(4):
        worker = subprocess.Popen([sys.executable, "-c", WORKER, str(state_dir), str(life)], stdout=subprocess.PIPE)
        assert worker.stdout is not None
        promised += [worker.stdout.readline().decode().strip() for _ in range(chance.randrange(5, 60))]
        worker.kill()
        promised += worker.stdout.read().decode().splitlines()
        worker.stdout.close()
        worker.wait()

        folder = open_results(state_dir)
        for file in folder.iterdir():
            if file.suffix == ".json":
                assert json.loads(file.read_bytes())["scan_id"] == file.stem
            else:
                content = file.read_bytes()
                assert len(content) == PNG_BYTES
                assert len(set(content)) == 1
        store = open_store()
        unfinished, counts = store.unfinished(), store.counts()
        assert counts.answered == counts.waiting
        assert len(unfinished) <= 3 * (life + 1)
        unpublished = {row.scan_id for row in store.without_files()}
        store.close()
        with closing(sqlite3.connect(state_dir / "dermascan.db")) as connection:
            answered = [row[0] for row in connection.execute("SELECT scan_id FROM scans WHERE state = 'answered'")]
            posted = [row[0] for row in connection.execute("SELECT scan_id FROM outbox")]
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert set(promised) <= set(answered)
        assert sorted(posted) == sorted(answered) == sorted(set(answered))
        assert len(answered) <= len(promised) + 3 * (life + 1)
        for scan_id in set(answered) - unpublished:
            assert (folder / f"{scan_id}.json").exists()
            assert (folder / f"{scan_id}.png").exists()
    assert len(promised) > 20
    assert not (state_dir / "quarantine").exists(), "a kill is no damage"
