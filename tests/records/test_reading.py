from __future__ import annotations

import argparse
import json
import sqlite3

import pytest

from agent.answer.scan import ScanState
from agent.intake.reasons import Reason
from agent.records import commands
from agent.records.reading import list_scans, open_reading
from agent.records.store import StoreError


@pytest.fixture
def filled(open_store, claim, answer_json):
    store = open_store()
    answered, rejected = claim(store, "a").scan_id, claim(store, "b").scan_id
    claim(store, "c", "/scope/[red]c.jpg")
    store.answer(answered, answer_json(answered), "cpu").result(10)
    store.reject(rejected, Reason.BLANK, "The picture is blank.").result(10)
    return store


@pytest.mark.parametrize("running", [True, False])
def test_listing_works_with_the_agent_and_without(filled, state_dir, running):
    if not running:
        filled.close()
    assert [row.state.value for row in list_scans(state_dir)] == ["answered", "rejected", "received"]
    assert [row.seq for row in list_scans(state_dir, limit=2)] == [2, 3]
    (row,) = list_scans(state_dir, ScanState.REJECTED)
    assert (row.reason, row.sentence) == ("blank", "The picture is blank.")


@pytest.mark.fault("F08")
def test_a_reader_changes_nothing_and_never_checkpoints(filled, state_dir):
    def files() -> dict[str, tuple[int, int]]:
        names = ("dermascan.db", "dermascan.db-wal")
        return {name: ((state_dir / name).stat().st_size, (state_dir / name).stat().st_mtime_ns) for name in names}

    before = files()
    assert before["dermascan.db-wal"][0] > 0
    with open_reading(state_dir) as db:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM scans")
        db.execute("SELECT count(*) FROM scans").fetchone()
    assert files() == before


def test_no_database_is_told_and_none_is_made(state_dir):
    with pytest.raises(StoreError, match="no database yet"):
        list_scans(state_dir)
    assert not state_dir.exists()


@pytest.mark.fault("F10")
@pytest.mark.parametrize("content", [b"", b"\xa5" * 5000])
def test_a_damaged_database_is_told_and_left_alone(state_dir, content):
    state_dir.mkdir()
    (state_dir / "dermascan.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"dermascan\.db"):
        list_scans(state_dir)
    assert (state_dir / "dermascan.db").read_bytes() == content


@pytest.fixture
def run(state_dir, tmp_path):
    """Run ``dermascan scans`` with a configuration whose state_dir is the test's."""
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[device]\nid = "device-1"\nclinic_id = "clinic-1"\nstate_dir = "{state_dir}"\n'
        f'[[dermoscope]]\nid = "scope-1"\nfolder = "{tmp_path / "scope"}"\n'
        f'[inference]\nbundle = "{tmp_path / "bundle"}"\n'
    )

    def run_it(*words: str) -> int:
        parser = argparse.ArgumentParser()
        commands.register(parser.add_subparsers())
        arguments = parser.parse_args(["scans", "--config", str(config), *words])
        code: int = arguments.run(arguments)
        return code

    return run_it


def test_the_command_lists_json_lines(filled, run, capsys):
    assert run("--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines] == ["answered", "rejected", "received"]
    assert lines[0]["result"]["diagnosis"]["primary"] == "melanoma"
    assert run("--json", "--state", "answered", "--limit", "5") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_command_shows_a_table(filled, run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run() == 0
    out = capsys.readouterr().out
    for word in ("melanoma", "70.0%", "The picture is blank.", "[red]c.jpg", "received"):
        assert word in out


def test_the_command_without_a_database_fails_in_words(run, capsys):
    assert run() == 1
    captured = capsys.readouterr()
    assert "there is no database yet" in captured.err
    assert captured.out == ""


def test_wrong_values_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--state", "lost")
    assert "answered" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--limit", "-1")
