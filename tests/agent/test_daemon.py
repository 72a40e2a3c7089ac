"""What only the daemon decides: duplicates, restarts, late sidecars, lost files, a poisonous capture, a full quota."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent import analysts, watching
from agent.answer.scan import ScanState
from agent.blame import CrashLedger
from agent.intake.reasons import Reason
from agent.intake.sidecar import Sidecar
from agent.records.space import SpaceGuard
from agent.upkeep import rounds
from tests.faults.running import running

WriteConfig = Callable[..., Path]


def picture(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    skin = cv2.resize(rng.integers(40, 250, (5, 6, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".png", skin)[1])


def until(condition: Callable[[], bool], what: str, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


@pytest.mark.fault("F04")
def test_the_same_picture_under_two_names_is_answered_once(write_config: WriteConfig, tmp_path: Path) -> None:
    config, folder = write_config(), tmp_path / "scope-1"
    with running(config) as (daemon, commits):
        (folder / "a.png").write_bytes(picture())
        (folder / "b.png").write_bytes(picture())
        commits.wait(lambda by_name: len(by_name) == 1)
        (folder / "c.png").write_bytes(picture(1))
        commits.wait(lambda by_name: "c.png" in by_name)
        until(lambda: len(daemon.store.known("scope-1")) == 3, "three sightings")
    assert len(commits.seen) == 2


@pytest.mark.fault("F04")
def test_what_was_answered_is_not_answered_again_after_a_restart(write_config: WriteConfig, tmp_path: Path) -> None:
    config, folder = write_config(), tmp_path / "scope-1"
    (folder / "a.png").write_bytes(picture())
    with running(config) as (_, commits):
        commits.wait(lambda by_name: "a.png" in by_name)
    (folder / "b.png").write_bytes(picture(1))
    with running(config) as (_, commits):
        commits.wait(lambda by_name: "b.png" in by_name)
    assert [finished.path.name for finished in commits.seen] == ["b.png"]


def test_a_late_sidecar_reaches_the_scan_and_its_file(write_config: WriteConfig, tmp_path: Path) -> None:
    with running(write_config()) as (_, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        scan = commits.wait(lambda by_name: "a.png" in by_name)["a.png"]
        result = tmp_path / "state" / "results" / f"{scan.scan_id}.json"
        until(result.exists, "the result file")
        (tmp_path / "scope-1" / "a.json").write_text('{"patient_id": "P-17", "age": 61}')
        until(lambda: json.loads(result.read_bytes())["patient_id"] == "P-17", "the patient in the result file")
    connection = sqlite3.connect(tmp_path / "state" / "dermascan.db")
    events = connection.execute("SELECT event FROM outbox JOIN outbox_events USING (seq)").fetchall()
    connection.close()
    assert len(events) == 1
    assert b"P-17" not in events[0][0]


@pytest.mark.fault("F03")
def test_a_sidecar_that_could_not_be_read_when_the_answer_was_made_is_taken_over(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder was away at that moment: found by the soak."""
    away = threading.Event()
    monkeypatch.setattr(analysts, "read_kept_sidecar", lambda *_: away.set() or Sidecar())
    (tmp_path / "scope-1").mkdir(exist_ok=True)
    with running(write_config()) as (_, commits):
        (tmp_path / "scope-1" / "a.json").write_text('{"patient_id": "P-17"}')
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        scan = commits.wait(lambda by_name: "a.png" in by_name)["a.png"]
        assert away.is_set()
        assert scan.answer.patient_id is None
        result = tmp_path / "state" / "results" / f"{scan.scan_id}.json"
        until(result.exists, "the result file")
        until(lambda: json.loads(result.read_bytes())["patient_id"] == "P-17", "the patient in the result file")


@pytest.mark.fault("F03")
def test_a_sidecar_that_came_while_no_agent_ran_is_taken_over(write_config: WriteConfig, tmp_path: Path) -> None:
    config = write_config()
    with running(config) as (_, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        scan = commits.wait(lambda by_name: "a.png" in by_name)["a.png"]
    (tmp_path / "scope-1" / "a.json").write_text('{"patient_id": "P-17"}')
    result = tmp_path / "state" / "results" / f"{scan.scan_id}.json"
    with running(config):
        until(lambda: json.loads(result.read_bytes())["patient_id"] == "P-17", "the patient in the result file")


def test_files_that_a_crash_left_out_are_written_at_the_next_start(write_config: WriteConfig, tmp_path: Path) -> None:
    config = write_config()
    (tmp_path / "scope-1" / "a.png").write_bytes(picture())
    with running(config) as (_, commits):
        scan_id = commits.wait(lambda by_name: "a.png" in by_name)["a.png"].scan_id
    results = tmp_path / "state" / "results"
    overlay = (results / f"{scan_id}.png").read_bytes()
    for path in results.iterdir():
        path.unlink()
    connection = sqlite3.connect(tmp_path / "state" / "dermascan.db")
    connection.execute("UPDATE scans SET files_written = 0")
    connection.commit()
    connection.close()
    with running(config):
        until((results / f"{scan_id}.png").exists, "the overlay")
    assert json.loads((results / f"{scan_id}.json").read_bytes())["scan_id"] == scan_id
    before, after = (
        cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (overlay, (results / f"{scan_id}.png").read_bytes())
    )
    # The stored heatmap has 256 levels, the first overlay was drawn from full precision.
    assert np.abs(before.astype(int) - after).mean() < 1.0


def test_a_capture_that_is_gone_is_refused_and_one_in_a_lost_folder_is_not(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = write_config(), tmp_path / "scope-1"
    monkeypatch.setattr(rounds, "UPKEEP_S", 0.2)
    with running(config) as (daemon, commits):
        (folder / "kept.png").write_bytes(picture(5))  # the folder is known now
        commits.wait(lambda by_name: "kept.png" in by_name)
        stamp = next(iter(daemon.store.known("scope-1").values()))
        lost = daemon.store.claim("sha256:" + "0" * 64, "0" * 64, folder / "lost.png", "scope-1", stamp).result()
        elsewhere = daemon.store.claim("sha256:" + "1" * 64, "1" * 64, folder / "x.png", "scope-9", stamp).result()
        until(lambda: daemon.store.result_json(lost.scan_id) is not None, "the refusal")
        assert json.loads(daemon.store.result_json(lost.scan_id) or "")["reason"] == Reason.GONE.value
        # Dermoscope 9 is not in this configuration: its folder cannot be looked into, so its capture is not given up.
        assert daemon.store.result_json(elsewhere.scan_id) is None


def test_a_capture_that_stops_the_process_each_time_is_refused(write_config: WriteConfig, tmp_path: Path) -> None:
    config = write_config()
    (tmp_path / "scope-1" / "a.png").write_bytes(picture())
    with running(config) as (_, commits):
        scan_id = commits.wait(lambda by_name: "a.png" in by_name)["a.png"].scan_id
    (tmp_path / "state" / "dermascan.db").unlink()
    for path in (tmp_path / "state" / "results").iterdir():
        path.unlink()
    notes = tmp_path / "state" / "analysing"
    (notes / scan_id).write_bytes(b"x" * analysts.MAX_CRASHES)  # what so many deaths leave; ids follow the content
    with running(config) as (_, commits):
        finished = commits.wait(lambda by_name: "a.png" in by_name)["a.png"]
    assert (finished.state, finished.reason) == (ScanState.REJECTED, Reason.CRASHED_ANALYSIS)
    assert list(notes.iterdir()) == []


def test_the_ledger_counts_only_deaths(tmp_path: Path) -> None:
    for expected in (0, 1, 2):
        ledger = CrashLedger(tmp_path)
        assert ledger.crashes("scan") == expected
        died = ledger.analysing("scan")
        died.__enter__()  # and the process is gone: nothing comes after
    ledger = CrashLedger(tmp_path)
    with pytest.raises(ValueError, match="ended"), ledger.analysing("scan"):
        raise ValueError("ended")
    assert CrashLedger(tmp_path).crashes("scan") == 0


def test_deaths_while_a_capture_waits_for_the_engine_are_not_its_fault(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(b"x")  # what one death leaves
    for _ in range(5):
        waits = CrashLedger(tmp_path).analysing("scan")
        waits.__enter__()().__enter__()  # and the process is gone while the engine works
        assert CrashLedger(tmp_path).crashes("scan") == 1, "neither more nor fewer than before"
    died_after = CrashLedger(tmp_path).analysing("scan")
    with died_after.__enter__()():
        pass
    assert CrashLedger(tmp_path).crashes("scan") == 2, "dangerous again once the engine has answered"


def test_a_suspect_is_analysed_alone_so_that_its_neighbour_is_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "suspect").write_bytes(b"x")  # what one death leaves
    ledger = CrashLedger(tmp_path)
    order: list[str] = []
    neighbour_may_go = threading.Event()

    def neighbour() -> None:
        with ledger.analysing("neighbour"):
            order.append("neighbour begins")
            neighbour_may_go.wait(10)
            order.append("neighbour ends")

    def suspect() -> None:
        with ledger.analysing("suspect"):
            order.append("suspect begins")
            assert {note.name for note in tmp_path.iterdir()} == {"suspect"}
            order.append("suspect ends")

    threads = [threading.Thread(target=neighbour), threading.Thread(target=suspect)]
    threads[0].start()
    until(lambda: order == ["neighbour begins"], "the neighbour")
    threads[1].start()
    time.sleep(0.1)
    neighbour_may_go.set()
    for thread in threads:
        thread.join()
    assert order == ["neighbour begins", "neighbour ends", "suspect begins", "suspect ends"]


@pytest.mark.fault("F06")
def test_intake_waits_while_the_quota_is_used_up(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysts, "FULL_RETRY_S", 0.1)
    full = [True]
    monkeypatch.setattr(SpaceGuard, "full", lambda self: full[0])
    with running(write_config()) as (daemon, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        assert daemon.wait_ready(20)
        time.sleep(0.5)
        assert commits.seen == []
        full[0] = False
        commits.wait(lambda by_name: "a.png" in by_name)


@pytest.mark.fault("F02")
def test_a_watch_that_died_is_replaced(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "UPKEEP_S", 0.2)
    real = watching.FolderWatch.run
    calls = []

    def dies_once(self: object, stop: object) -> None:
        calls.append(1)
        if len(calls) > 1:
            real(self, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(watching.FolderWatch, "run", dies_once)
    with running(write_config()) as (_, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        commits.wait(lambda by_name: "a.png" in by_name)
    assert len(calls) == 2


def test_an_unexpected_fault_of_ours_is_tried_again_without_a_restart(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "UPKEEP_S", 0.2)
    real = analysts.analyse
    calls = []

    def breaks_once(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("nobody thought of this")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(analysts, "analyse", breaks_once)
    with running(write_config()) as (_, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        (tmp_path / "scope-1" / "b.png").write_bytes(picture(1))
        commits.wait(lambda by_name: set(by_name) == {"a.png", "b.png"})
    assert len(calls) == 3


@pytest.mark.requirement("R-INT-5")
@pytest.mark.parametrize("data", [picture(2), b"no picture"], ids=["answered", "refused"])
def test_the_original_is_never_touched(write_config: WriteConfig, tmp_path: Path, data: bytes) -> None:
    config, original = write_config(), tmp_path / "scope-1" / "a.png"
    original.write_bytes(data)
    original.chmod(0o440)
    before = original.stat()
    with running(config) as (daemon, commits):
        scan = commits.wait(lambda by_name: "a.png" in by_name)["a.png"]
        until((daemon.store.results_folder / f"{scan.scan_id}.json").exists, "the result file")
    after = original.stat()
    assert original.read_bytes() == data
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
