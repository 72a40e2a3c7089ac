"""Anything may lie in a dermoscope's folder: each ends answered or refused in plain words, and the next is answered."""

from __future__ import annotations

import shutil
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


def feed(config: Path, root: Path, count: int, originals: Sequence[bytes], timeout_s: float) -> Counter[str]:
    """Drop mutated files, things that are no files, and a good capture last; check how each ended."""
    folder, outside = root / "scope-1", root / "outside"
    outside.mkdir()
    with running(config) as (daemon, commits):
        for number, mutation in enumerate(mutations(count, 1, originals)):
            path = folder / f"{number}-".encode().decode() if False else Path(str(folder), f"{number:05d}.jpg")
            path.write_bytes(mutation.data)
        for kind in NOT_FILES:
            place_not_file(kind, folder / f"not-{kind}.jpg", outside)
        assert daemon.wait_ready(20)
        good = originals[0] + b"\0the last and good one"
        (folder / "good.jpg").write_bytes(good)
        # Equal bytes are one capture, whatever their names, so not every name has an end of its own.
        commits.wait(lambda by_name: "good.jpg" in by_name, timeout_s)
        counts = _settled(daemon, timeout_s)
    assert commits.by_name()["good.jpg"].state is ScanState.ANSWERED
    for finished in commits.seen:
        if finished.state is ScanState.REJECTED:
            assert finished.sentence is not None
            assert len(finished.sentence.split()) >= 4, f"{finished.path.name}: {finished.sentence!r} helps nobody"
            assert "Error" not in finished.sentence
    identities = [finished.scan_id for finished in commits.seen]
    assert len(identities) == len(set(identities)), "a capture ended twice"
    return counts


def _settled(daemon: object, timeout_s: float) -> Counter[str]:
    """Wait until every candidate of the folder has been seen and nothing is merely received."""
    import time

    store = daemon.store  # type: ignore[attr-defined]
    deadline, before = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline:
        now = Counter({str(state): n for state, n in store.counts().scans.items()})
        if now.get("received", 0) == 0 and now == before:
            return now
        before = now
        time.sleep(1.5)
    raise AssertionError(f"still changing after {timeout_s} s: {before}")


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
    assert sum(counts.values()) > 1500
    print(counts)


@pytest.mark.timeout(120)
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
