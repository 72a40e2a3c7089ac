"""What a person says at a shell reaches the agent once, running or not, through any crash (F11, F19)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.records.spool import LARGEST_BYTES, REFUSED, SPOOL, RetryOrder, Spool, VerdictOrder, place, refusal, waiting
from agent.records.store import Store, StoreFull

REPOSITORY = Path(__file__).resolve().parents[2]


def said(scan_id: str, order_id: str = "v-1", diagnosis: str = "melanoma") -> VerdictOrder:
    return VerdictOrder(
        id=order_id,
        scan_id=scan_id,
        diagnosis=diagnosis,
        source="clinician",
        by="Dr CANARY",
        note="CANARY",
        given_at="2026-01-02T03:04:05.678Z",
    )


def take_up(store: Store, state_dir: Path) -> int:
    return Spool(store, state_dir, threading.Event()).take_up()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def scan_id(open_store, claim, answer_json) -> str:
    store = open_store()
    found: str = claim(store).scan_id
    store.answer(found, answer_json(found), "cpu").result(10)
    store.close()
    return found


@contextmanager
def running(store: Store, state_dir: Path) -> Iterator[None]:
    stop = threading.Event()
    spool = Spool(store, state_dir, stop)
    spool.start()
    try:
        yield
    finally:
        stop.set()
        spool.join()


def test_a_verdict_waits_for_the_agent_and_is_kept_as_it_was_said(open_store, state_dir, scan_id):
    path = place(state_dir, said(scan_id))
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o750
    store = open_store()
    assert waiting(state_dir) == (1, 0)
    assert take_up(store, state_dir) == 1
    (kept,) = store.verdicts(scan_id)
    assert (kept.verdict_id, kept.diagnosis, kept.source, kept.given_by, kept.note) == (
        "v-1",
        "melanoma",
        "clinician",
        "Dr CANARY",
        "CANARY",
    )
    assert kept.given_at == "2026-01-02T03:04:05.678Z"
    assert waiting(state_dir) == (0, 0)
    assert take_up(store, state_dir) == 0


def test_a_running_agent_takes_it_up_at_once(open_store, state_dir, scan_id):
    store = open_store()
    with running(store, state_dir):
        path = place(state_dir, said(scan_id))
        until(lambda: not path.exists(), "taken up")
        assert len(store.verdicts(scan_id)) == 1, "a file is gone only when its verdict is kept"


def test_verdicts_are_taken_up_in_the_order_of_saying_whatever_the_clock_does(
    open_store, state_dir, scan_id, monkeypatch
):
    times = iter([5_000, 4_000, 1])
    monkeypatch.setattr("agent.records.spool.time.time_ns", lambda: next(times))
    for number, diagnosis in enumerate(("melanoma", "dermatofibroma", "vascular_lesion")):
        place(state_dir, said(scan_id, f"v-{number}", diagnosis))
    store = open_store()
    assert take_up(store, state_dir) == 3
    assert [one.verdict_id for one in store.verdicts(scan_id)] == ["v-0", "v-1", "v-2"]


@pytest.mark.fault("F11")
@pytest.mark.fault("F19")
@pytest.mark.parametrize("step", ["before-commit", "after-commit", "before-removal", "after-removal"])
def test_killed_between_spool_and_commit_nothing_is_lost_or_doubled(open_store, state_dir, scan_id, step):
    place(state_dir, said(scan_id))
    dying = subprocess.run(
        [sys.executable, "-c", DYING, str(state_dir), step], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert dying.returncode == -9, dying.stderr
    assert waiting(state_dir) == (0 if step == "after-removal" else 1, 0)
    store = open_store()
    assert len(store.verdicts(scan_id)) == (0 if step == "before-commit" else 1)
    take_up(store, state_dir)
    assert [one.verdict_id for one in store.verdicts(scan_id)] == ["v-1"]
    topics = [row.topic for row in store.outbox_due(100, fresh_after_seq=0, exclude=())]
    assert topics == ["feedback", "results"]
    assert waiting(state_dir) == (0, 0)


DYING = """
import functools, sqlite3, sys, threading
from pathlib import Path
from agent.records.spool import Spool
from agent.records.store import Store
from tests.faults.crashing_agent import DyingConnection, after, before

state_dir, step = Path(sys.argv[1]), sys.argv[2]
if step.endswith("commit"):
    DyingConnection.marker, DyingConnection.when = "INSERT INTO verdicts", step.partition("-")[0]
    sqlite3.connect = functools.partial(sqlite3.connect, factory=DyingConnection)
store = Store.open(state_dir, "device-1", 256, clinic_id="clinic-1", software_version="9.9")
if step.endswith("removal"):
    {"before": before, "after": after}[step.partition("-")[0]](Path, "unlink")
Spool(store, state_dir, threading.Event()).take_up()
"""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF"),
        (b"\xff\xfe\x00", "JSON"),
        (b"[]", "object"),
        (b'{"order": "burn", "id": "1"}', "'verdict', 'retry'"),
        (b'{"order": "retry", "id": "1", "event_id": null, "more": 1}', "more"),
        (said("s").model_dump_json().replace("melanoma", "a mole").encode(), "diagnosis"),
        (said("s").model_dump_json().encode(), "scan s is not in the database"),
        (b" " * (LARGEST_BYTES + 1), "more than"),
    ],
)
def test_what_cannot_be_done_is_moved_aside_with_its_reason_and_holds_nothing_up(
    open_store, state_dir, scan_id, content, reason
):
    folder = state_dir / SPOOL
    folder.mkdir()
    bad = folder / "00000000000000000001-x.json"
    bad.write_bytes(content)
    (folder / "by hand.json").write_bytes(content)
    place(state_dir, said(scan_id))
    store = open_store()
    assert take_up(store, state_dir) == 1
    assert len(store.verdicts(scan_id)) == 1
    assert waiting(state_dir) == (0, 2)
    assert reason in (refusal(bad) or "")
    assert (folder / REFUSED / bad.name).read_bytes() == content


def test_odd_things_in_the_folder_are_left_alone(open_store, state_dir, scan_id):
    path = place(state_dir, said(scan_id))
    (path.parent / "folder.json").mkdir()
    (path.parent / "notes.txt").write_text("x")
    (path.parent / ".half.json.part").write_bytes(b"{")
    (path.parent / "link.json").symlink_to("/etc/hostname")
    store = open_store()
    assert take_up(store, state_dir) == 1
    assert waiting(state_dir) == (0, 0)
    assert len(list(path.parent.iterdir())) == 4


@pytest.mark.fault("F06")
def test_a_full_store_keeps_the_verdict_in_the_spool(open_store, state_dir, scan_id, monkeypatch):
    store = open_store()
    path = place(state_dir, said(scan_id))
    verdict = store.verdict
    full = threading.Event()

    def refuse(*_args: object, **_keywords: object) -> None:
        full.set()
        raise StoreFull("the store is full")

    monkeypatch.setattr(store, "verdict", refuse)
    with running(store, state_dir):
        assert full.wait(10)
        assert path.exists()
        monkeypatch.setattr(store, "verdict", verdict)
        until(lambda: not path.exists(), "taken up once there was room")
    assert len(store.verdicts(scan_id)) == 1


def test_a_retry_is_taken_up(open_store, state_dir, scan_id):
    store = open_store()
    (row,) = store.outbox_due(10, fresh_after_seq=0, exclude=())
    store.outbox_dead(row.event_id, "x").result(10)
    place(state_dir, RetryOrder(id="r-1", event_id="of nobody"))
    place(state_dir, RetryOrder(id="r-2", event_id=row.event_id))
    assert take_up(store, state_dir) == 2
    assert store.outbox_stats().waiting == 1


@pytest.mark.fault("F30")
def test_names_and_notes_are_in_no_log(open_store, state_dir, scan_id, caplog):
    caplog.set_level("DEBUG")
    store = open_store()
    place(state_dir, said(scan_id))
    place(state_dir, said("unknown"))
    broken = place(state_dir, said(scan_id))
    broken.write_text(json.dumps(said(scan_id).model_dump() | {"diagnosis": "CANARY"}))
    take_up(store, state_dir)
    assert waiting(state_dir) == (0, 2)
    assert "CANARY" not in caplog.text


def test_what_a_crash_left_half_written_is_swept_and_what_is_being_written_is_not(open_store, state_dir, scan_id):
    folder = place(state_dir, said(scan_id)).parent
    old, young = folder / ".old.json.part", folder / ".young.json.part"
    for path in (old, young):
        path.write_bytes(b"{")
    os.utime(old, (time.time() - 3600,) * 2)
    with running(open_store(), state_dir):
        until(lambda: not old.exists(), "swept")
    assert young.exists()
