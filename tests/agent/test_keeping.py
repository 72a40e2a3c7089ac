"""The commands that look after the records, with the agent running and without it."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.cli import main
from agent.config import ConfigError
from agent.records import spool
from agent.records.keeping.backup import listed
from agent.records.reading import list_scans
from agent.records.sealing import SEALED
from tests.faults.running import running

CANARY = "CANARY-4711"
NOBODY = "4194304999\n"
"""No process has this number."""


def picture(seed: int) -> bytes:
    skin = np.random.default_rng(seed).integers(40, 250, (5, 6, 3), np.uint8)
    return bytes(cv2.imencode(".png", cv2.resize(skin, (320, 240), interpolation=cv2.INTER_CUBIC))[1])


def drop(folder: Path, name: str, seed: int, patient: str | None = None) -> None:
    if patient is not None:
        (folder / f"{name}.json").write_text(json.dumps({"patient_id": patient, "age": 61}))
    (folder / f"{name}.png").write_bytes(picture(seed))


def said(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def files_with(folder: Path, *words: str) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words)
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def sealed_config(write_config: Callable[..., Path], tmp_path: Path) -> Path:
    key = tmp_path / "field.key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    return write_config(("[store]", f'[privacy]\nfield_key_file = "{key}"\n\n[store]'))


@pytest.mark.fault("F30")
@pytest.mark.requirement("R-PAT-2")
def test_with_a_key_no_file_of_the_agent_holds_a_patient(sealed_config, state, tmp_path, capsys):
    with running(sealed_config) as (_, commits):
        drop(tmp_path / "scope-1", "a", 1, CANARY)
        scan_id = commits.wait(lambda seen: "a.png" in seen)["a.png"].scan_id
        words = ("feedback", scan_id, "--diagnosis", "melanoma", "--source", "clinician", "--note", f"{CANARY} said so")
        assert said(capsys, *words, "--config", str(sealed_config))["recorded"] is True
        said(capsys, "backup", "--config", str(sealed_config))
        assert main(["scans", "--json", "--config", str(sealed_config)]) == 0
        assert json.loads(capsys.readouterr().out)["result"]["patient_id"] == CANARY, "and who has the key reads it"
        assert files_with(state, CANARY) == []
    assert files_with(state, CANARY) == []
    (result,) = (state / "results").glob("*.json")
    assert SEALED.fullmatch(json.loads(result.read_text())["patient_id"])


@pytest.mark.fault("F30")
@pytest.mark.requirement("R-PAT-3")
def test_a_patient_is_exported_and_erased_while_the_agent_runs(write_config, state, tmp_path, capsys):
    config = write_config()
    with running(config) as (daemon, commits):
        drop(tmp_path / "scope-1", "a", 1, CANARY)
        drop(tmp_path / "scope-1", "b", 2, "P-OTHER")
        commits.wait(lambda seen: len(seen) == 2)
        give_up = time.monotonic() + 15
        while daemon.store.look(
            lambda db: db.execute("SELECT count(*) FROM scans WHERE files_written = 0").fetchone()[0]
        ):
            assert time.monotonic() < give_up
            threading.Event().wait(0.05)
        target = tmp_path / "out.zip"
        words = ("--patient", CANARY, "--config", str(config))
        assert said(capsys, "patient", "export", *words, "--to", str(target))["scans"] == 1
        with zipfile.ZipFile(target) as archive:
            assert sorted(name.partition("/")[0] for name in archive.namelist()) == [
                "README.txt",
                "overlays",
                "pictures",
                "scans.json",
            ]
            assert CANARY.encode() in archive.read("scans.json")
        assert main(["patient", "erase", *words]) == 1, "nobody was asked, and nobody said yes"
        assert "--yes" in capsys.readouterr().err
        assert files_with(state, CANARY)
        done = said(capsys, "patient", "erase", "--yes", *words)
        assert (done["scans"], done["captures"]) == (1, [str(tmp_path / "scope-1" / "a.png")])
        assert files_with(state, CANARY) == []
        assert daemon.store.counts().answered == 2
        assert main(["patient", "export", *words, "--to", str(tmp_path / "no.zip")]) == 1
        assert "no scan is of this patient" in capsys.readouterr().err
    assert files_with(state, CANARY) == []
    assert files_with(state, "P-OTHER")
    with running(config) as (daemon, _):
        time.sleep(0.5)  # the folder is read again, with the sidecar that still lies there
        assert daemon.store.counts().answered == 2
    assert files_with(state, CANARY) == [], "and nothing brings them back"


@pytest.mark.requirement("R-PAT-3")
def test_the_same_without_a_running_agent(write_config, state, tmp_path, capsys):
    config = write_config()
    with running(config) as (_, commits):
        drop(tmp_path / "scope-1", "a", 1, CANARY)
        commits.wait(lambda seen: "a.png" in seen)
    (state / "agent.lock").write_text(NOBODY)
    done = said(capsys, "patient", "erase", "--yes", "--patient", CANARY, "--config", str(config))
    assert done["scans"] == 1
    assert files_with(state, CANARY) == []
    (state / "agent.lock").write_text(NOBODY)
    report = said(capsys, "retention", "--config", str(config))
    assert (report["given_up"]["fields"], report["short"]) == (0, None)


def test_retention_through_the_running_agent(write_config, state, tmp_path, capsys):
    config = write_config(("quota_mb = 1024", "quota_mb = 1024\nretention_days = 1"))
    with running(config) as (daemon, commits):
        drop(tmp_path / "scope-1", "a", 1, CANARY)
        scan_id = commits.wait(lambda seen: "a.png" in seen)["a.png"].scan_id
        old = "UPDATE scans SET received_at = '2020-01-01T00:00:00.000Z', finished_at = '2020-01-01T00:00:01.000Z'"
        daemon.store.change(lambda db: db.execute(old)).result(10)
        assert said(capsys, "retention", "--config", str(config))["given_up"]["fields"] == 0, "it was not sent"
        sent = [row.event_id for row in daemon.store.outbox_due(10, fresh_after_seq=0)]
        daemon.store.outbox_acknowledge(sent).result(10)
        assert said(capsys, "retention", "--config", str(config))["given_up"]["fields"] == 1
        assert [path.name for path in (state / "results").iterdir()] == [f"{scan_id}.json"]
        assert files_with(state / "results", CANARY) == []


@pytest.mark.requirement("R-REC-6")
def test_backup_and_restore(write_config, state, tmp_path, capsys):
    config = write_config()
    copies = tmp_path / "copies"
    with running(config) as (_, commits):
        drop(tmp_path / "scope-1", "a", 1)
        commits.wait(lambda seen: "a.png" in seen)
        told = said(capsys, "backup", "--config", str(config), "--to", str(copies))
        assert (told["rows"]["scans"], Path(told["path"])) == (1, copies / "dermascan-000001.db")
        drop(tmp_path / "scope-1", "b", 2)
        first = commits.wait(lambda seen: "b.png" in seen)["b.png"].scan_id
        assert main(["restore", told["path"], "--config", str(config)]) == 1
        assert "another agent" in capsys.readouterr().err
    done = said(capsys, "restore", told["path"], "--config", str(config))
    assert done["rows"]["scans"] == 1
    assert len(list_scans(state)) == 1
    with running(config) as (_, commits):
        assert commits.wait(lambda seen: "b.png" in seen)["b.png"].scan_id == first, "found again, and the same scan"
    assert listed(copies) == [Path(told["path"])]


def test_keys_are_rotated_with_a_restart(sealed_config, state, tmp_path, capsys):
    key = tmp_path / "field.key"
    with running(sealed_config) as (_, commits):
        drop(tmp_path / "scope-1", "a", 1, CANARY)
        commits.wait(lambda seen: "a.png" in seen)
    old = key.read_bytes()
    told = said(capsys, "rotate-keys", "--config", str(sealed_config))
    assert len(told["keys"]) == 2
    assert old.hex() in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert main(["rotate-keys", "--forget-old", "--config", str(sealed_config)]) == 1
    assert "older keys are still in use" in capsys.readouterr().err
    with running(sealed_config) as (daemon, _):
        give_up = time.monotonic() + 20
        asked = "SELECT count(*) FROM scans WHERE sealed_by IS NOT ?"
        while daemon.store.look(lambda db: db.execute(asked, (told["key"],)).fetchone()[0]):
            assert time.monotonic() < give_up
            threading.Event().wait(0.05)
    assert said(capsys, "rotate-keys", "--forget-old", "--config", str(sealed_config))["keys"] == [told["key"]]
    assert old.hex() not in key.read_text()
    assert main(["scans", "--json", "--config", str(sealed_config)]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["patient_id"] == CANARY
    assert files_with(state, CANARY) == []


def test_a_lost_key_is_given_up_by_name_only(sealed_config, state, tmp_path, capsys):
    key = tmp_path / "field.key"
    with running(sealed_config) as (_, commits):
        drop(tmp_path / "scope-1", "a", 1, CANARY)
        commits.wait(lambda seen: "a.png" in seen)
    key.write_bytes(os.urandom(32))
    with pytest.raises(ConfigError, match=r"sealed with key ([0-9a-f]{16}).*--lost") as refused, running(sealed_config):
        pass
    (lost,) = {word.strip(",") for word in str(refused.value).split() if re.fullmatch("[0-9a-f]{16},?", word)}
    assert main(["rotate-keys", "--lost", "0" * 16, "--config", str(sealed_config)]) == 1
    assert "none that is missing" in capsys.readouterr().err
    assert said(capsys, "rotate-keys", "--lost", lost, "--config", str(sealed_config))["lost"] == lost
    with running(sealed_config) as (_, commits):
        drop(tmp_path / "scope-1", "b", 2, "P-2")
        commits.wait(lambda seen: "b.png" in seen)
    assert main(["scans", "--json", "--config", str(sealed_config)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["result"]["patient_id"] for row in rows] == [None, "P-2"]


def test_an_order_that_this_agent_cannot_do_is_refused_not_lost(write_config, state, capsys):
    """What another version asks for lies in refused, with the reason."""
    config = write_config()
    with running(config):
        path = spool.place(state, spool.RetentionOrder(id="x"))
        give_up = time.monotonic() + 15
        while path.exists():
            assert time.monotonic() < give_up
            threading.Event().wait(0.05)
        assert spool.reply_to(path) is not None
        assert spool.reply_to(path) is None, "it is said once"
