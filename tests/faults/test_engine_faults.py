"""The whole agent on an engine that goes wrong in every way: no wrong answer leaves, no capture is lost (F12)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent import daemon as daemon_module
from agent import model as model_module
from engines.bundle import Bundle, load_bundle
from engines.golden import golden_check
from engines.ladder import Ladder, Rung, open_ladder
from engines.supervisor import Worker
from tests.fakes import faulty_backend
from tests.fakes.bundles import copy_bundle, wrong_golden
from tests.faults.running import running

WriteConfig = Callable[..., Path]


def captures(folder: Path, count: int) -> list[str]:
    """Pictures that differ in what they show, so that an answer given to the wrong one would be seen."""
    names = []
    for number in range(count):
        rng = np.random.default_rng(number)
        skin = cv2.resize(rng.integers(40, 250, (5, 6, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        names.append(f"{number}.png")
        cv2.imwrite(str(folder / names[-1]), skin)
    return names


def answers(config: Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    with running(config) as (_, commits):
        seen = commits.wait(lambda by_name: set(by_name) >= set(names))
    assert len(commits.seen) == len(names), "a capture was answered twice"
    found = {}
    for name, finished in seen.items():
        assert finished.answer is not None, f"{name}: {finished.sentence}"
        found[name] = finished.answer.diagnosis.all_classes
    return found


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    "faults",
    [
        # Runs are counted over all processes, golden images included: run 1 is the first golden image.
        {"3": "raise", "6": "raise"},
        {"3": "exit", "5": "segfault"},
        {"3": "hang"},
        {"3": "nan", "6": "shape", "9": "not_summing"},
        {"1": "wrong"},  # wrong numbers from the start: caught by the golden image, before any patient
        {"2": "segfault", "3": "exit", "4": "raise", "5": "nan"},
    ],
    ids=lambda faults: "-".join(faults.values()),
)
def test_no_wrong_answer_leaves_and_no_capture_is_lost(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: dict[str, str]
) -> None:
    config = write_config()
    names = captures(tmp_path / "scope-1", 6)
    right = answers(config, names)
    shutil.rmtree(tmp_path / "state")
    counters = tmp_path / "counters"
    counters.mkdir()

    def faulty(_names: Sequence[str], bundle: Bundle, **_: object) -> Ladder:
        spec = faulty_backend.spec(counters, faults, bundle=bundle.folder)
        return Ladder([Rung("cpu", Worker(spec, golden_check(bundle)))])

    monkeypatch.setattr(daemon_module, "open_ladder", faulty)
    wrong = answers(config, names)
    for name in names:
        assert wrong[name] == pytest.approx(right[name], abs=1e-5), name


@pytest.mark.fault("F12")
def test_an_engine_that_never_passes_its_golden_image_answers_nothing(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_bundle: Path
) -> None:
    broken = copy_bundle(demo_bundle, tmp_path / "broken", wrong_golden)
    config = write_config((str(demo_bundle), str(broken)))
    (name,) = captures(tmp_path / "scope-1", 1)
    with running(config) as (daemon, commits):
        assert not daemon.wait_ready(1.5)
        assert commits.seen == []
        assert daemon.store.counts().received == 1
    # The capture waits as it was received, and is answered once the engine is trusted again.
    monkeypatch.setattr(model_module, "load_bundle", lambda folder, **_: load_bundle(demo_bundle))
    assert set(answers(config, [name])) == {name}


def test_the_real_ladder_is_what_the_daemon_opens() -> None:
    assert daemon_module.open_ladder is open_ladder
