from __future__ import annotations

import json
import stat

import pytest

from agent.records import results
from agent.records.results import open_results, write_results


def test_both_files_lie_there_readable_for_people(tmp_path):
    folder = open_results(tmp_path)
    written = write_results(folder, "x", '{"b": 1, "name": "Müller"}'.encode(), b"png")
    assert (folder / "x.json").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "name": "Müller"\n}\n'
    assert (folder / "x.png").read_bytes() == b"png"
    assert written == sum(file.stat().st_size for file in folder.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) & 0o027 for file in folder.iterdir()} == {0}
    assert stat.S_IMODE(folder.stat().st_mode) & 0o027 == 0


def test_a_refusal_has_only_the_json(tmp_path):
    folder = open_results(tmp_path)
    write_results(folder, "x", b"{}", None)
    assert [file.name for file in folder.iterdir()] == ["x.json"]


def test_a_failed_write_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    folder = open_results(tmp_path)
    write_results(folder, "x", b'{"old": 1}', b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_results(folder, "x", b'{"new": 1}', b"new")
    assert sorted(file.name for file in folder.iterdir()) == ["x.json", "x.png"]
    assert json.loads((folder / "x.json").read_bytes()) == {"old": 1}


@pytest.mark.fault("F11")
def test_file_and_folder_are_synced_in_the_right_order(tmp_path, monkeypatch):
    folder = open_results(tmp_path)
    steps = []
    fsync = results.os.fsync

    def watched(handle: int) -> None:
        there = sorted(file.name for file in folder.iterdir())
        steps.append(("folder" if stat.S_ISDIR(results.os.fstat(handle).st_mode) else "file", there))
        fsync(handle)

    monkeypatch.setattr(results.os, "fsync", watched)
    write_results(folder, "x", b"{}", b"png")
    assert steps == [
        ("file", [".x.png.part"]),
        ("file", [".x.json.part", "x.png"]),
        ("folder", ["x.json", "x.png"]),
    ]
