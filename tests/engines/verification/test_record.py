"""verification.json: read back as written, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.verification.gates import Verdict, unlabelled_gates
from engines.verification.intervals import Figure
from engines.verification.record import (
    PictureSet,
    RecordError,
    Verification,
    check_writable,
    read_record,
    to_json,
    write_record,
)


def made_up() -> Verification:
    return Verification(
        verdict=Verdict.INCOMPLETE,
        bundle="demo/1.0.0",
        model_sha256="1" * 64,
        manifest_sha256="2" * 64,
        engine={"backend": "cpu"},
        reference="model.onnx",
        threshold=0.1163,
        gates=tuple(unlabelled_gates("no labels")),
        self_test=None,
        pictures=None,
        picture_set=PictureSet("six", 6, 9, 0, "3" * 64, {"melanoma": 2}),
        latency_p50_ms=Figure(12.5, 11.0, 14.0),
        farthest_picture=None,
        failure=None,
        versions={"python": "3.11"},
        hardware={"cores": "2"},
        verified_at="2025-11-22T00:00:00+00:00",
        duration_s=1.5,
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "verification.json"
    path.write_text("an older one")
    write_record(path, made_up())
    assert read_record(path) == made_up()
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644
    content = json.loads(path.read_text())
    assert content["verdict"] == "incomplete"
    assert content["gates"][0]["outcome"] == "not measured"


def test_a_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "verification.json"
    write_record(path, made_up())

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RecordError, match=r"verification\.json: cannot be written \(No space left"):
        write_record(path, made_up())
    assert read_record(path) == made_up()
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_takes_no_files_is_found_out_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "verification.json")
    assert list(tmp_path.iterdir()) == []
    for folder in (tmp_path / "nowhere", Path("/proc")):  # /proc takes no files even from root
        with pytest.raises(RecordError, match=r"cannot be written \(.*name another file with --out"):
            check_writable(folder / "verification.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"{}", "verdict"),
        (to_json(made_up()).replace('"incomplete"', '"splendid"').encode(), "verdict"),
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "verification.json"
    path.write_bytes(text)
    with pytest.raises(RecordError, match=words) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    with pytest.raises(RecordError, match="cannot be read"):
        read_record(tmp_path / "nowhere.json")
