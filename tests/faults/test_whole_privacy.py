"""The whole agent with patients who are canaries: nothing that leaves holds one; sealed, no file of ours does (F30)."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.sync.scene import Scene, until
from tests.fakes.broker import free_port
from tests.faults.whole import WholeAgent, drop, filed, picture, rows, wait_filed

pytestmark = pytest.mark.fault("F30")
WriteConfig = Callable[..., Path]
CANARY = "CANARY-4711-Quetzal"
IN_A_NAME = "NAMED-0815-Toucan"
"""Of a patient whose id some camera has put into a file's name: by that name people find the file again."""


def holders(folder: Path, canary: str = CANARY) -> Iterator[Path]:
    """Files that hold the canary, as it is or in base64, or whose names do."""
    told = {canary.encode(), *(base64.b64encode(bytes(shift) + canary.encode())[4:-4] for shift in range(3))}
    for path in folder.rglob("*"):
        if canary in path.name or (path.is_file() and any(word in path.read_bytes() for word in told)):
            yield path


@pytest.mark.parametrize("sealed", [False, True])
def test_a_patient_stays_where_she_belongs(write_config: WriteConfig, tmp_path: Path, *, sealed: bool) -> None:
    scope, port = tmp_path / "scope-1", free_port()
    for name in ("pseudonym", "field"):
        (tmp_path / f"{name}.key").write_bytes(os.urandom(32))
        (tmp_path / f"{name}.key").chmod(0o600)
    privacy = '[privacy]\npseudonym_key_file = "pseudonym.key"\n' + 'field_key_file = "field.key"\n' * sealed
    with Scene(tmp_path / "cloud-side") as scene, scene.cloud() as cloud:
        until(lambda: cloud.lines, 20, "the cloud")
        mqtt = "\n".join(f"{key} = {json.dumps(value)}" for key, value in scene.mqtt().items())
        section = f"[mqtt]\n{mqtt}\n\n[api]\nport = {port}\n\n{privacy}\n[store]"
        config = write_config(("[store]", section))
        with WholeAgent(config) as agent:
            agent.wait_ready()
            (scope / "capture-1.json").write_text(json.dumps({"patient_id": CANARY, "age": 61}))
            hashes = drop(scope, 1)
            (scope / f"{IN_A_NAME}.jpg").write_bytes(picture(2))
            (scope / "no-picture.jpg").write_text(CANARY)
            until(lambda: len(filed(tmp_path)) == 3, 20, "all three come to their end")
            ((scan_id,),) = rows(tmp_path, "SELECT scan_id FROM scans WHERE image_sha256 = ?", *hashes)
            feedback = ["feedback", str(scan_id), "--diagnosis", "melanoma", "--source", "clinician"]
            note = ["--note", f"{CANARY} wants to know", "--by", "Dr Who"]
            subprocess.run([sys.executable, "-m", "agent.cli", *feedback, *note, "--config", str(config)], check=True)
            until(lambda: not rows(tmp_path, "SELECT 1 FROM outbox WHERE state = 'waiting'"), 20, "all events arrive")
            commands = [" ".join(one.cmdline()) for one in psutil.Process(agent.process.pid).children(recursive=True)]
            agent.stop()
        for canary in (CANARY, IN_A_NAME):
            assert canary not in agent.said
            assert canary not in "".join(commands)
        state = tmp_path / "state"
        answer = json.loads((state / "results" / f"{scan_id}.json").read_bytes())
        assert ("patient_id" not in answer or answer["patient_id"] != CANARY) is sealed
    wait_filed(tmp_path, hashes)
    for canary in (CANARY, IN_A_NAME):
        assert list(holders(scene.folder, canary)) == [], "it left the device"
    assert {path.relative_to(state).parts[0] for path in holders(state, IN_A_NAME)} == {"dermascan.db"}
    found = {path.relative_to(state).parts[0] for path in holders(state)}
    assert found == (set() if sealed else {"dermascan.db", "results"})
