"""A verdict said at a shell reaches the running daemon, and one said while it was stopped at its next start."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from agent.cli import main
from tests.faults.running import running


def picture() -> bytes:
    skin = np.random.default_rng(5).integers(40, 250, (5, 6, 3), np.uint8)
    return bytes(cv2.imencode(".png", cv2.resize(skin, (320, 240), interpolation=cv2.INTER_CUBIC))[1])


def test_verdicts_reach_the_daemon_running_or_not(write_config: Callable[..., Path], tmp_path: Path, capsys) -> None:
    config = write_config()
    (tmp_path / "scope-1" / "a.png").write_bytes(picture())
    words = ["--config", str(config), "--json", "--source", "clinician", "--diagnosis"]
    with running(config) as (daemon, commits):
        scan_id = commits.wait(lambda by_name: "a.png" in by_name)["a.png"].scan_id
        assert main(["feedback", scan_id, *words, "dermatofibroma"]) == 0
        assert json.loads(capsys.readouterr().out)["recorded"] is True
        assert [one.diagnosis for one in daemon.store.verdicts(scan_id)] == ["dermatofibroma"]
    (tmp_path / "state" / "agent.lock").write_text("4194304999\n")  # no process has this number
    assert main(["feedback", scan_id, *words, "vascular_lesion"]) == 0
    assert json.loads(capsys.readouterr().out)["recorded"] is False
    posted = threading.Event()
    with running(config) as (daemon, _):
        daemon.store.on_posted = posted.set
        if len(daemon.store.verdicts(scan_id)) < 2:
            assert posted.wait(15)
        assert [one.diagnosis for one in daemon.store.verdicts(scan_id)] == ["dermatofibroma", "vascular_lesion"]
