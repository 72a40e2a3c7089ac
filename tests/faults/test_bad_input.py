"""Anything may lie in a dermoscope's folder: each ends answered or refused in plain words, and the next is answered."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.answer.scan import ScanState
from tests.fakes.mutations import NOT_FILES, generated_sources, mutations, place_not_file
from tests.faults.running import running

WriteConfig = Callable[..., Path]


def sources(data: Path) -> list[bytes]:
    folder = data / "isic2017" / "val"
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:6]] if folder.exists() else generated_sources()


def ended(state_dir: Path) -> dict[str, str]:
    """Content hash to terminal state, of everything that has come to its end."""
    connection = sqlite3.connect(f"file:{state_dir / 'dermascan.db'}?mode=ro", uri=True)
    try:
        return dict(connection.execute("SELECT identity, state FROM scans WHERE state <> 'received'"))
    finally:
        connection.close()


def feed(config: Path, root: Path, count: int, originals: Sequence[bytes], timeout_s: float) -> Counter[str]:
    """Drop mutated files, things that are no files, and a good capture last; check how each ended."""
    folder, outside, expected = root / "scope-1", root / "outside.jpg", set()
    outside.write_bytes(originals[0])
    with running(config) as (daemon, commits):
        assert daemon.wait_ready(20)
        for number, mutation in enumerate(mutations(count, 1, originals)):
            with open(os.fsencode(folder) + b"/%05d-" % number + mutation.name, "wb") as file:  # noqa: PTH123 - odd bytes
                file.write(mutation.data)
            expected.add(f"sha256:{hashlib.sha256(mutation.data).hexdigest()}")
        for kind in NOT_FILES:
            place_not_file(kind, folder / f"not-{kind}.jpg", outside)
        good = originals[0] + b"\0the last and good one"
        (folder / "good.jpg").write_bytes(good)
        commits.wait(lambda by_name: "good.jpg" in by_name, timeout_s)
        assert commits.by_name()["good.jpg"].state is ScanState.ANSWERED
        deadline = time.monotonic() + timeout_s
        while missing := expected - ended(root / "state").keys():
            assert time.monotonic() < deadline, f"{len(missing)} captures came to no end"
            time.sleep(0.5)
    refused = [finished.sentence for finished in commits.seen if finished.state is ScanState.REJECTED]
    for sentence in refused:
        assert sentence is not None
        assert len(sentence.split()) >= 4, f"{sentence!r} helps nobody"
        assert "Error" not in sentence
    assert any("not a picture" in (sentence or "") for sentence in refused)
    scans = [finished.scan_id for finished in commits.seen]
    assert len(scans) == len(set(scans)), "a capture ended twice"
    return Counter(ended(root / "state").values())


@pytest.mark.timeout(120)
@pytest.mark.fault("F05")
def test_bad_files_end_and_the_good_one_is_answered(
    write_config: WriteConfig, tmp_path: Path, shared_data: Path
) -> None:
    counts = feed(write_config(), tmp_path, 120, sources(shared_data), 60)
    assert counts["answered"] > 10
    assert counts["rejected"] > 10


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.fault("F05")
def test_two_thousand_bad_files(write_config: WriteConfig, tmp_path: Path, shared_data: Path) -> None:
    counts = feed(write_config(), tmp_path, 2000, sources(shared_data), 900)
    assert counts["answered"] > 200
    assert counts["rejected"] > 200


@pytest.mark.timeout(120)
@pytest.mark.requirement("R-INT-4")
def test_the_originals_and_a_hundred_others_are_all_answered(
    write_config: WriteConfig, tmp_path: Path, shared_data: Path
) -> None:
    pictures = sorted((shared_data / "isic_fullsize").glob("*.jpg"))
    pictures += sorted((shared_data / "isic2017" / "val").glob("*.jpg"))[:100]
    assert len(pictures) == 103
    with running(write_config()) as (_, commits):
        for picture in pictures:
            # Both folders hold files of the same name.
            shutil.copyfile(picture, tmp_path / "scope-1" / f"{picture.parent.name}-{picture.name}")
        seen = commits.wait(lambda by_name: len(by_name) == len(pictures), 100)
    assert {finished.state for finished in seen.values()} == {ScanState.ANSWERED}
    results = tmp_path / "state" / "results"
    assert len(list(results.glob("*.json"))) == len(list(results.glob("*.png"))) == len(pictures)
    for name, finished in seen.items():
        assert finished.answer is not None
        small = name.startswith("val-")
        assert finished.answer.quality.width == (256 if small else finished.answer.quality.width)
        assert any("1024" in warning for warning in finished.answer.warnings), name
