"""``active.json``: whole or as it was, one writer at a time, never taken for empty (F27)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines import files
from engines.backend import BundleError
from engines.installed.activation import Activation, Installed, NotAllowed, roll_back, stage
from engines.installed.ledger import Ledger

pytestmark = pytest.mark.fault("F27")

A = Installed(bundle="demo/1.0.0", manifest_sha256="a" * 64)


def test_without_a_file_nothing_was_activated_and_nothing_is_written_for_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.read() == Activation()
    assert ledger.stamp() is None
    ledger.change(lambda state: state)
    assert not ledger.path.exists()


def test_a_change_is_written_whole_and_seen(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    after = ledger.change(lambda state: stage(state, A))
    assert ledger.read() == after == Ledger(tmp_path).read()
    first = ledger.stamp()
    ledger.change(lambda state: stage(state, A))
    assert ledger.stamp() != first
    assert {path.name for path in tmp_path.iterdir()} == {"active.json", ".active.lock"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 2}', b'{"committed": {"bundle": "../x"}}'])
def test_a_damaged_file_is_never_taken_for_an_empty_one(tmp_path: Path, content: bytes) -> None:
    ledger = Ledger(tmp_path)
    ledger.path.write_bytes(content)
    for attempt in (ledger.read, lambda: ledger.change(lambda state: stage(state, A))):
        with pytest.raises(BundleError, match=r"active.json: .*the file was damaged: move it away and activate"):
            attempt()
    assert ledger.path.read_bytes() == content


def test_a_label_that_leaves_the_folder_is_no_label(tmp_path: Path) -> None:
    content = {"committed": {"installed": {"bundle": "../../1.0.0", "manifest_sha256": "a" * 64}}}
    Ledger(tmp_path).path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"committed.installed.bundle: String should match"):
        Ledger(tmp_path).read()


def test_a_refused_step_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(NotAllowed):
        ledger.change(roll_back)
    assert not ledger.path.exists()
    ledger.change(lambda state: stage(state, A))  # and the lock is free again


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    before = ledger.change(lambda state: stage(state, A))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(BundleError, match=r"active.json: cannot be written \(No space left"):
        ledger.change(lambda state: stage(state, A))
    assert ledger.read() == before
    assert {path.name for path in tmp_path.iterdir()} == {"active.json", ".active.lock"}


def test_a_folder_that_is_gone_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the models folder cannot be used"):
        Ledger(tmp_path / "gone").change(lambda state: stage(state, A))


ADD = """
import sys
from pathlib import Path
from engines.installed.activation import Failure, Installed
from engines.installed.ledger import Ledger

installed = Installed(bundle="demo/1.0.0", manifest_sha256="a" * 64)
for number in range(20):
    failure = Failure(installed=installed, stage="staged", reason=f"{sys.argv[2]}-{number}", at="")
    Ledger(Path(sys.argv[1])).change(lambda state: state.model_copy(update={"failures": (*state.failures, failure)}))
"""


def test_processes_take_turns_and_no_step_is_lost(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    workers = [
        subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path), name], env=environment) for name in ("a", "b", "c")
    ]
    assert [worker.wait(25) for worker in workers] == [0, 0, 0]
    reasons = [failure.reason for failure in Ledger(tmp_path).read().failures]
    assert sorted(reasons) == sorted(f"{name}-{number}" for name in "abc" for number in range(20))
