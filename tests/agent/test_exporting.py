"""The export folder of a running agent: each scan as it ends, and again when it was judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.records.reading import open_reading
from agent.upkeep import rounds
from tests.agent.test_daemon import picture, until
from tests.faults.running import running


def test_an_answered_scan_is_written_and_again_after_a_verdict(
    write_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "UPKEEP_S", 0.2)
    (tmp_path / "out").mkdir()
    section = ("[store]", '[export]\nfolder = "out"\nformats = ["json"]\n\n[store]')
    with running(write_config(section)) as (daemon, commits):
        (tmp_path / "scope-1" / "a.png").write_bytes(picture())
        scan_id = commits.wait(lambda by_name: "a.png" in by_name)["a.png"].scan_id

        def exported() -> list[str]:
            return [path.read_text() for path in sorted((tmp_path / "out").glob(f"{scan_id}.v*.json"))]

        until(lambda: len(exported()) == 1, "the export")
        daemon.store.verdict(scan_id, "dermatofibroma", "histopathology").result(10)
        until(lambda: len(exported()) == 2, "the export with the verdict")
        given = [[one["diagnosis"] for one in json.loads(text)["verdicts"]] for text in exported()]
        assert given == [[], ["dermatofibroma"]]
    with open_reading(tmp_path / "state") as db:
        rows = db.execute("SELECT who, subject, detail FROM audit WHERE action = 'export'").fetchall()
    assert len(rows) == 2
    assert {row[:2] for row in rows} == {("agent", scan_id)}
