"""The ledger of the export folder, and the looks that it steers."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.records.results import TEMPORARY
from agent.standards import looking
from agent.standards.errors import ExportFailed, StandardsMissing
from agent.standards.export import Format
from agent.standards.horizon import Horizon
from agent.standards.ledger import MAX_ATTEMPTS, NAME, SET_ASIDE, Finished, Ledger, State
from agent.standards.looking import LEDGER_DIR, Outcome, Trouble, Wish, clear_leftovers, finished, look, open_ledger
from tests.standards.conftest import Clinic

BOTH = (Format.FHIR, Format.JSON)
NEW = Horizon(0, ())
"""As where the agent had no scans when it began to export."""


class Export:
    """One device's export, without the process around it."""

    def __init__(self, clinic: Clinic, folder: Path, formats: tuple[Format, ...] = BOTH) -> None:
        folder.mkdir(exist_ok=True)
        self.clinic, self.wish = clinic, Wish(clinic.state_dir, folder, formats)

    def look(self, scan_ids: list[str] | None = None, horizon: Horizon = NEW) -> list[Outcome]:
        told: list[Outcome] = []
        ledger = open_ledger(self.wish, horizon)
        try:
            look(self.wish, ledger, scan_ids, told.append)
        finally:
            self.given_up = ledger.given_up()
            ledger.close()
        return told

    def names(self) -> list[str]:
        return sorted(path.name for path in self.wish.folder.iterdir())


@pytest.fixture
def out(clinic: Clinic, tmp_path: Path) -> Export:
    return Export(clinic, tmp_path / "out")


def test_each_scan_once_in_each_format(clinic: Clinic, out: Export) -> None:
    scan_id = clinic.scan()
    assert [(one.format, one.state) for one in out.look()] == [("fhir", State.WRITTEN), ("json", State.WRITTEN)]
    assert out.names() == [f"{scan_id}.v1.fhir.json", f"{scan_id}.v1.json"]
    for path in out.wish.folder.iterdir():
        path.unlink()  # the receiver took them
    assert out.look() == []
    assert out.names() == []


def test_a_verdict_is_written_and_what_it_does_not_change_is_not(clinic: Clinic, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="the DICOM export needs dermascan-edge[standards]")
    out = Export(clinic, tmp_path / "out", (Format.DICOM,))
    scan_id = clinic.scan()
    out.look()
    assert out.names() == [f"{scan_id}.image.dcm", f"{scan_id}.v1.report.dcm"]
    for path in out.wish.folder.iterdir():
        path.unlink()
    clinic.verdict(scan_id, "melanoma")
    assert [one.state for one in out.look([scan_id])] == [State.WRITTEN]
    assert out.names() == [f"{scan_id}.v2.report.dcm"]  # the image says the same as before


def test_a_late_sidecar_is_written(clinic: Clinic, out: Export) -> None:
    scan_id = clinic.scan()
    out.look()
    clinic.store.add_metadata(scan_id, {"patient_id": "P-9"}).result()
    assert len(out.look([scan_id])) == 2
    assert json.loads((out.wish.folder / f"{scan_id}.v1.json").read_bytes())["patient"]["patient_id"] == "P-9"


def test_what_is_older_than_the_wish_is_not_written_unasked(clinic: Clinic, out: Export) -> None:
    old = clinic.scan()
    _, begun = clinic.claim(b"begun", "begun.jpg")
    horizon = Horizon.now(clinic.state_dir)
    assert horizon == Horizon(2, (2,))
    new = clinic.scan(b"new", "new.jpg")
    assert {one.scan_id for one in out.look(horizon=horizon)} == {new}
    clinic.store.reject(begun, looking_reason(), "Not a picture.").result()
    assert {one.scan_id for one in out.look(horizon=horizon)} == {begun}
    clinic.verdict(old, "melanoma")  # judged since: that is new
    assert {one.scan_id for one in out.look(horizon=horizon)} == {old}


@pytest.mark.requirement("R-PAT-3")
def test_an_erased_scan_is_not_looked_at_again(clinic: Clinic, out: Export) -> None:
    scan_id = clinic.scan(patient_id="P-1")
    assert len(out.look()) == 2
    clinic.store.change(
        lambda db: db.execute("UPDATE scans SET kept = 'erased', metadata = '{}' WHERE scan_id = ?", (scan_id,))
    ).result(10)
    assert finished(clinic.state_dir, None) == finished(clinic.state_dir, [scan_id]) == []
    assert out.look() == out.look([scan_id]) == []


def looking_reason() -> Any:
    from agent.intake.reasons import Reason

    return Reason.NOT_A_PICTURE


def test_a_format_that_is_added_later(clinic: Clinic, tmp_path: Path) -> None:
    first = clinic.scan()
    Export(clinic, tmp_path / "out", (Format.JSON,)).look()
    both = Export(clinic, tmp_path / "out")
    second = clinic.scan(b"second", "b.jpg")
    told = both.look(horizon=Horizon(1, ()))
    assert {(one.scan_id, one.format) for one in told} == {(second, "fhir"), (second, "json")}
    assert first not in {one.scan_id for one in told}


def test_a_refused_capture_has_no_dicom(clinic: Clinic, tmp_path: Path) -> None:
    out = Export(clinic, tmp_path / "out", (Format.DICOM, Format.JSON))
    clinic.refused()
    assert [(one.format, one.state) for one in out.look()] == [("dicom", State.NOTHING), ("json", State.WRITTEN)]
    assert out.look() == []


@pytest.mark.fault("F11")
def test_a_crash_between_file_and_ledger(clinic: Clinic, out: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look writes the same file again, under the same name."""
    scan_id = clinic.scan()

    class PowerCut(BaseException):
        pass

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "end", lambda *_, **__: (_ for _ in ()).throw(PowerCut()))
        with pytest.raises(PowerCut):
            out.look()
    before = (out.wish.folder / f"{scan_id}.v1.fhir.json").read_bytes()
    assert out.names() == [f"{scan_id}.v1.fhir.json"]
    assert len(out.look()) == 2
    assert out.names() == [f"{scan_id}.v1.fhir.json", f"{scan_id}.v1.json"]
    assert (out.wish.folder / f"{scan_id}.v1.fhir.json").read_bytes() == before


def test_what_a_crash_left_half_written_is_removed(out: Export) -> None:
    scan_id = "4543c65d-6da3-5af4-8bdf-623cfc68a970"
    ours, theirs = out.wish.folder / f".{scan_id}.v1.fhir.json{TEMPORARY}", out.wish.folder / ".upload.part"
    for path in (ours, theirs, out.wish.folder / f"{scan_id}.v1.json"):
        path.write_bytes(b"x")
    clear_leftovers(out.wish.folder)
    assert out.names() == [".upload.part", f"{scan_id}.v1.json"]


@pytest.mark.fault("F06")
def test_a_full_disk_loses_nothing(clinic: Clinic, out: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    scan_id = clinic.scan()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for _ in range(MAX_ATTEMPTS + 2):  # however often: it is no fault of the scan's
        with monkeypatch.context() as patched:
            patched.setattr(looking, "write_atomically", full)
            with pytest.raises(Trouble, match="No space left on device"):
                out.look()
    assert out.names() == []
    assert [one.scan_id for one in out.look()] == [scan_id, scan_id]


@pytest.mark.fault("F06")
def test_a_really_full_disk(clinic: Clinic, tmp_path: Path) -> None:
    """``/dev/full`` in the folder's place would be no folder; a file size limit is met by every write."""
    import resource
    import signal

    out = Export(clinic, tmp_path / "out")
    scan_id = clinic.scan()
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        ledger = open_ledger(out.wish, NEW)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, old[1]))
        with pytest.raises(Trouble):
            look(out.wish, ledger, None, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
        ledger.close()
    assert out.names() == []
    assert [one.scan_id for one in out.look()] == [scan_id, scan_id]


@pytest.mark.fault("F03")
def test_a_folder_that_is_gone_is_not_made(clinic: Clinic, out: Export) -> None:
    clinic.scan()
    out.wish.folder.rmdir()
    with pytest.raises(Trouble, match="no such folder"):
        out.look()
    assert not out.wish.folder.exists()


def test_a_scan_that_fails_is_tried_five_times(clinic: Clinic, out: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = clinic.scan(), clinic.scan(b"good", "good.jpg")
    real = looking.export_scan

    def fail(state_dir: Path, scan_id: str, wanted: Format) -> Any:
        if scan_id == bad:
            raise ExportFailed(f"scan {scan_id} could not be written")
        return real(state_dir, scan_id, wanted)

    monkeypatch.setattr(looking, "export_scan", fail)
    states = [one.state for one in out.look()]
    assert states == [State.FAILED, State.FAILED, State.WRITTEN, State.WRITTEN]
    assert out.given_up == 0
    for _ in range(MAX_ATTEMPTS - 1):
        assert {one.scan_id for one in out.look()} == {bad}
    assert out.look() == []
    assert out.given_up == 2
    monkeypatch.setattr(looking, "export_scan", real)
    clinic.verdict(bad, "melanoma")  # something new to say: begun again
    assert [one.state for one in out.look()] == [State.WRITTEN, State.WRITTEN]
    assert out.given_up == 0
    assert good


def test_a_scan_that_ends_the_process_is_given_up(clinic: Clinic, out: Export) -> None:
    scan_id = clinic.scan()
    for _ in range(MAX_ATTEMPTS):
        ledger = open_ledger(out.wish, NEW)
        (one,) = looking.finished(clinic.state_dir, None)
        assert ledger.due(one, Format.JSON)
        ledger.begin(one, Format.JSON)  # and here the process dies
        ledger.close()
    assert {(one.scan_id, one.format) for one in out.look()} == {(scan_id, "fhir")}
    assert out.given_up == 1


def test_without_the_library_the_other_formats_go_on(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Export(clinic, tmp_path / "out", (Format.DICOM, Format.JSON))
    clinic.scan()
    real = looking.export_scan

    def missing(state_dir: Path, scan_id: str, wanted: Format) -> Any:
        if wanted is Format.DICOM:
            raise StandardsMissing("install it")
        return real(state_dir, scan_id, wanted)

    monkeypatch.setattr(looking, "export_scan", missing)
    with pytest.raises(Trouble, match="install it"):
        out.look()
    assert [name.rpartition(".")[2] for name in out.names()] == ["json"]


@pytest.mark.fault("F10")
@pytest.mark.parametrize("damage", [b"", b"not a database" * 100, None])
def test_a_damaged_ledger_forgets_nothing(clinic: Clinic, out: Export, damage: bytes | None) -> None:
    scan_id = clinic.scan()
    out.look()
    path = clinic.state_dir / LEDGER_DIR / NAME
    if damage is None:
        data = bytearray(path.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        path.write_bytes(data)
    else:
        path.write_bytes(damage)
    later = Horizon(1, ())  # the scan is older than this start
    told = out.look(horizon=later)
    assert {one.scan_id for one in told} == {scan_id}
    assert list((clinic.state_dir / LEDGER_DIR).glob(f"{SET_ASIDE}*"))
    assert out.look(horizon=later) == []


def test_a_ledger_that_is_in_use_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.standards.ledger.BUSY_S", 0.1)
    first = Ledger(tmp_path)
    first._db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError):
        Ledger(tmp_path)
    first._db.execute("ROLLBACK")
    first.close()
    assert not list(tmp_path.glob(f"{SET_ASIDE}*"))


def test_revisions(clinic: Clinic) -> None:
    scan_id = clinic.scan()
    (one,) = looking.finished(clinic.state_dir, [scan_id])
    assert looking.finished(clinic.state_dir, None) == [one]
    assert looking.finished(clinic.state_dir, ["no-such-scan"]) == []
    clinic.verdict(scan_id, "melanoma")
    (judged,) = looking.finished(clinic.state_dir, [scan_id] * 500)[:1]
    assert judged != one
    assert judged == replace(one, revision=judged.revision)
    assert isinstance(one, Finished)


def test_no_database_is_trouble(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="no database yet"):
        looking.finished(tmp_path, None)
    assert Horizon.now(tmp_path) == Horizon(0, ())
