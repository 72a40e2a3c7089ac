"""``dermascan export``."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.records.spool import Spool
from agent.standards import commands
from tests.standards.conftest import Clinic

Run = Callable[..., int]


@pytest.fixture
def run(write_config: Callable[..., Path], clinic: Clinic) -> Run:
    config = write_config()

    def call(*words: str) -> int:
        parser = argparse.ArgumentParser()
        commands.register(parser.add_subparsers())
        arguments = parser.parse_args(["export", "--config", str(config), *words])
        code: int = arguments.run(arguments)
        return code

    return call


@pytest.fixture
def clinic(tmp_path: Path) -> object:
    (tmp_path / "scope-1").mkdir(exist_ok=True)
    made = Clinic(tmp_path)
    yield made
    made.store.close()


def test_files_are_written_and_named(
    run: Run, clinic: Clinic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan_id = clinic.scan(patient_id="CANARY")
    out = tmp_path / "a" / "b"
    assert run(scan_id, "--format", "fhir", "--out", str(out)) == 0
    assert capsys.readouterr().out == f"{out / scan_id}.v1.fhir.json\n"
    assert json.loads((out / f"{scan_id}.v1.fhir.json").read_bytes())["resourceType"] == "Bundle"
    assert run(scan_id, "--format", "json", "--out", str(out), "--json") == 0
    said = capsys.readouterr().out
    assert json.loads(said) == {"scan_id": scan_id, "format": "json", "files": [f"{out / scan_id}.v1.json"]}
    assert "CANARY" not in said


def test_the_audit_is_told_who_and_what(run: Run, clinic: Clinic, tmp_path: Path) -> None:
    scan_id = clinic.scan(patient_id="CANARY")
    assert run(scan_id, "--format", "json", "--out", str(tmp_path / "out")) == 0
    (order,) = (clinic.state_dir / "spool").glob("*.json")
    told = json.loads(order.read_bytes())
    assert (told["action"], told["subject"], told["detail"]["format"]) == ("export", scan_id, "json")
    assert "CANARY" not in order.read_text()
    assert Spool(clinic.store, clinic.state_dir, threading.Event()).take_up() == 1
    assert clinic.store.audit_head()[0] >= 1


def test_without_the_audit_nothing_is_written(
    run: Run, clinic: Clinic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan_id = clinic.scan()
    (clinic.state_dir / "spool").write_text("in the way")
    assert run(scan_id, "--format", "json", "--out", str(tmp_path / "out")) == 1
    assert "the audit cannot be told" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_dicom(run: Run, clinic: Clinic, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("highdicom", reason="the DICOM export needs dermascan-edge[standards]")
    assert run(clinic.scan(), "--format", "dicom", "--out", str(tmp_path / "out")) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_cannot_be_exported(run: Run, clinic: Clinic, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("no-such-scan", "--format", "json") == 1
    assert "is not in the database" in capsys.readouterr().err
    assert run(clinic.refused(), "--format", "dicom") == 1
    assert "export it as fhir or json" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(clinic.scan(), "--format", "json", "--out", str(tmp_path / "file")) == 1
    assert "name another folder with --out" in capsys.readouterr().err


def test_without_the_library_one_line(
    run: Run, clinic: Clinic, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert run(clinic.scan(), "--format", "dicom") == 1
    assert capsys.readouterr().err.splitlines() == [
        "DICOM needs highdicom, which is not installed here: pip install 'dermascan-edge[standards]'"
    ]


def test_wrong_words(run: Run) -> None:
    with pytest.raises(SystemExit) as caught:
        run("a", "--format", "pdf")
    assert caught.value.code == 2
