"""The export folder as the agent has it: a thread that waits, and a real process that works."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.standards.export import Format
from agent.standards.folder import MOST_NUDGES, NICENESS, ExportFolder, ExportState, Written
from tests.standards.conftest import Clinic

Start = Callable[..., ExportFolder]


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, "not in time"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.fixture
def start(clinic: Clinic, folder: Path) -> Iterator[Start]:
    made: list[ExportFolder] = []

    def begin(*formats: str, **more: Any) -> ExportFolder:
        made.append(ExportFolder(clinic.state_dir, folder, formats or ("fhir", "json"), **more))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_scans_and_verdicts_are_written(clinic: Clinic, folder: Path, start: Start) -> None:
    pytest.importorskip("highdicom", reason="the DICOM export needs dermascan-edge[standards]")
    told: list[Written] = []
    export = start("dicom", "fhir", "json", linger_s=0.2, on_written=told.append)
    scan_id = clinic.scan(patient_id="P-1")
    export.changed(scan_id)
    first = {f"{scan_id}.{end}" for end in ("image.dcm", "v1.report.dcm", "v1.fhir.json", "v1.json")}
    until(lambda: names(folder) == first and export.state.written == 3)
    clinic.verdict(scan_id, "melanoma")
    export.changed(scan_id)
    until(lambda: export.state.written == 6)
    assert names(folder) - first == {f"{scan_id}.{end}" for end in ("v2.report.dcm", "v2.fhir.json", "v2.json")}
    until(lambda: not export.state.running)  # there is no more work: the process is gone
    assert export.state == ExportState(written=6)
    assert export.state.warnings == ()
    assert [(one.scan_id, one.format) for one in told] == [(scan_id, name) for name in ("dicom", "fhir", "json")] * 2
    assert len({one.reference for one in told}) == 6


def test_it_works_at_a_low_priority_and_in_another_process(clinic: Clinic, start: Start) -> None:
    export = start("json")
    export.changed(clinic.scan())
    until(lambda: export.state.written == 1)
    child = export._child
    assert child is not None
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, ours + NICENESS)
    export.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_what_was_not_nudged_is_found_at_the_next_start(clinic: Clinic, folder: Path, start: Start) -> None:
    first = start("json", linger_s=0.0)
    until(lambda: not first.state.running and (clinic.state_dir / "export" / "ledger.db").exists())
    first.stop()
    scan_id = clinic.scan()  # and the agent dies before it says so
    start("json")
    until(lambda: names(folder) == {f"{scan_id}.v1.json"})


def test_scans_from_before_the_wish_stay_where_they_are(clinic: Clinic, folder: Path, start: Start) -> None:
    clinic.scan()
    _, begun = clinic.claim(b"begun", "begun.jpg")
    export = start("json")
    new = clinic.scan(b"new", "new.jpg")
    export.changed(new)
    until(lambda: export.state.written == 1 and export.state.waiting == 0)
    assert names(folder) == {f"{new}.v1.json"}
    assert begun


def test_a_process_that_dies_is_replaced(clinic: Clinic, folder: Path, start: Start) -> None:
    export = start("json", retry_s=0.1)
    export.changed(clinic.scan())
    until(lambda: export.state.written == 1)
    child = export._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    second = clinic.scan(b"second", "b.jpg")
    export.changed(second)
    until(lambda: f"{second}.v1.json" in names(folder))
    until(lambda: export.state.trouble is None)
    assert export.state.failures == 1


def test_a_process_that_hangs_is_replaced(clinic: Clinic, folder: Path, start: Start) -> None:
    export = start("json", answer_s=1.5, retry_s=0.1)
    export.changed(clinic.scan())
    until(lambda: export.state.written == 1)
    child = export._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    second = clinic.scan(b"second", "b.jpg")
    export.changed(second)
    until(lambda: export.state.trouble is not None)
    assert "too long" in str(export.state.trouble)
    until(lambda: f"{second}.v1.json" in names(folder))


@pytest.mark.fault("F03")
@pytest.mark.fault("F06")
def test_a_folder_that_cannot_be_written(
    clinic: Clinic, folder: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rmdir()
    export = start("json", retry_s=0.1)
    scan_id = clinic.scan()
    export.changed(scan_id)
    until(lambda: export.state.failures >= 4)
    assert "no such folder" in str(export.state.trouble)
    assert "Export folder" in export.state.warnings[0]
    assert sum("no such folder" in one.message for one in caplog.records) == 1  # not again every time (F28)
    folder.mkdir()
    until(lambda: names(folder) == {f"{scan_id}.v1.json"})
    until(lambda: export.state.trouble is None)


@pytest.mark.fault("F30")
def test_logs_carry_no_patient(
    clinic: Clinic, folder: Path, start: Start, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("highdicom", reason="the DICOM export needs dermascan-edge[standards]")
    from tests.standards.test_dicom_capture import capture

    with caplog.at_level(logging.DEBUG):
        export = start("dicom", "fhir", "json")
        for number, name in enumerate(("CANARY-1", "CANARY\\2" + "x" * 100)):
            export.changed(
                clinic.scan(capture(PatientName="CANARY", StudyID=f"{number}"), f"{number}.dcm", patient_id=name)
            )
        until(lambda: export.state.written == 6)
        export.stop()
    out, err = capfd.readouterr()
    assert "CANARY" not in caplog.text + out + err
    assert not [name for name in names(folder) if "CANARY" in name]
    assert any(b"CANARY-1" in path.read_bytes() for path in folder.iterdir())  # where it belongs, it is


def test_many_nudges_are_one_look_at_everything(clinic: Clinic, folder: Path, start: Start) -> None:
    export = start("json", linger_s=0.0)
    until(lambda: not export.state.running and (clinic.state_dir / "export" / "ledger.db").exists())
    scan_id = clinic.scan()
    for number in range(MOST_NUDGES * 4):
        export.changed(f"{number}")
        assert export.state.waiting <= MOST_NUDGES
    until(lambda: names(folder) == {f"{scan_id}.v1.json"})


def test_a_nudge_takes_no_time_and_a_stop_little(clinic: Clinic, start: Start) -> None:
    export = start("json")
    began = time.monotonic()
    for _ in range(1000):
        export.changed("a")
    assert time.monotonic() - began < 0.5
    began = time.monotonic()
    export.stop()
    assert time.monotonic() - began < 6
    assert "export" not in {thread.name for thread in threading.enumerate()}


def test_a_stop_does_not_wait_for_what_is_left(clinic: Clinic, folder: Path, start: Start) -> None:
    first = start("json", linger_s=0.0)
    until(lambda: not first.state.running and (clinic.state_dir / "export" / "ledger.db").exists())
    first.stop()
    scans = [clinic.scan(bytes([number]) * 9, f"{number}.jpg") for number in range(25)]
    export = start("json")
    until(lambda: export.state.written >= 1)
    export.stop()
    again = start("json")
    until(lambda: len(names(folder)) == len(scans))
    again.stop()


def test_every_format_has_a_name() -> None:
    assert [one.value for one in Format] == ["dicom", "fhir", "json"]
