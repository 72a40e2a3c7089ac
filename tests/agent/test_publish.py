"""Result files that a crash or a full disk left out are written later, and never beside whoever answered (F06)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import publish
from agent.blame import CrashLedger
from agent.intake.picture import DecodeLimits
from agent.publish import Unfiled
from agent.records.store import Unpublished

pytestmark = pytest.mark.fault("F06")


class FakeStore:
    """Refused scans without files; ``written`` in their order."""

    def __init__(self, folder: Path, *scan_ids: str) -> None:
        self.results_folder, self.missing = folder, list(scan_ids)
        self.written: list[str] = []
        self.path, self.result = Path("/gone.jpg"), None
        self.places: list[Path] = []

    def without_files(self) -> Iterator[Unpublished]:
        yield from [Unpublished(scan_id, self.path, "scope-1", self.result) for scan_id in self.missing]

    def places_of(self, scan_id: str) -> list[Path]:
        return self.places

    def result_bytes(self, scan_id: str) -> bytes:
        return b"{}"

    def files_written(self, scan_id: str) -> None:
        self.written.append(scan_id)
        self.missing.remove(scan_id)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Scan to errno of its writing."""
    found: dict[str, int] = {}
    real = publish.write_results

    def write(folder: Path, scan_id: str, *rest: Any) -> int:
        if scan_id in found:
            raise OSError(found[scan_id], "pretended")
        return real(folder, scan_id, *rest)

    monkeypatch.setattr(publish, "write_results", write)
    return found


def unfiled(store: FakeStore) -> Unfiled:
    return Unfiled(store, DecodeLimits())  # type: ignore[arg-type]


def test_at_the_first_look_all_that_a_crash_left_out_is_written(tmp_path: Path) -> None:
    store = FakeStore(tmp_path, "a", "b")
    unfiled(store).look()
    assert store.written == ["a", "b"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json"}


def test_what_is_new_is_left_to_whoever_answered_it(tmp_path: Path) -> None:
    store = FakeStore(tmp_path)
    again = unfiled(store)
    again.look()
    store.missing += ["a"]
    again.look()
    assert store.written == []
    again.look()
    assert store.written == ["a"]


def test_a_full_disk_ends_the_look_and_the_next_one_goes_on(tmp_path: Path, broken: dict[str, int]) -> None:
    store = FakeStore(tmp_path, "a", "b", "c")
    again = unfiled(store)
    broken.update(dict.fromkeys("abc", errno.ENOSPC))
    for _ in range(3):
        again.look()
    assert store.written == []
    broken.clear()
    again.look()
    again.look()  # what was not looked at counts as new
    assert sorted(store.written) == ["a", "b", "c"]


def test_one_file_that_cannot_be_written_holds_no_other_up(tmp_path: Path, broken: dict[str, int]) -> None:
    store = FakeStore(tmp_path, "a", "b")
    broken["a"] = errno.EIO
    again = unfiled(store)
    again.look()
    assert store.written == ["b"]
    broken.clear()
    again.look()
    assert store.written == ["b", "a"]


def test_a_disk_that_takes_no_note_costs_no_analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "pretended")

    ledger = CrashLedger(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with ledger.analysing("scan") as waiting, waiting():
        pass
    assert ledger.crashes("scan") == 0
