"""The whole agent while its model is exchanged: every capture is answered by the old bundle or the new, whole (F27)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import daemon as daemon_module
from agent import model as model_module
from agent.analysts import Finished
from engines.bundle import Bundle
from engines.golden import golden_check
from engines.installed.activation import Activation, commit
from engines.installed.ledger import Ledger
from engines.installed.steps import Order, activate
from engines.ladder import Ladder, Rung, open_ladder
from engines.supervisor import Worker
from engines.trust.verifying import DEMO_TRUST
from tests.fakes import faulty_backend
from tests.fakes.bundles import new_version, wrong_golden
from tests.faults.running import Commits, running
from tests.faults.test_engine_faults import captures

pytestmark = pytest.mark.fault("F27")

WriteConfig = Callable[..., Path]
NEW = "demo/9.0.0"


def other_answers(manifest: dict[str, Any]) -> None:
    """A change: a model that gives each class the probability of the one before it."""
    golden = manifest["golden"]
    golden["probabilities"] = np.roll(golden["probabilities"], 1).tolist()


@pytest.fixture
def ledger(tmp_path: Path, demo_bundle: Path) -> Ledger:
    """A models folder in which the demonstration bundle is active."""
    (tmp_path / "models").mkdir()
    made = Ledger(tmp_path / "models")
    provisional = activate(made, Order(str(demo_bundle), DEMO_TRUST), test=lambda _: None).provisional
    assert provisional is not None
    made.change(lambda state: commit(state, provisional, "now"))
    return made


@pytest.fixture
def config(write_config: WriteConfig, ledger: Ledger, demo_bundle: Path) -> Path:
    return write_config((f'bundle = "{demo_bundle}"', f'models = "{ledger.models}"'))


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What goes wrong with the new bundle's engine, by the number of the run; the old one's is real."""
    counters = tmp_path / "counters"
    counters.mkdir()
    scheduled: dict[str, str] = {}

    def opened(names: Sequence[str], bundle: Bundle, **options: Any) -> Ladder:
        if bundle.label != NEW:
            return open_ladder(names, bundle, **options)
        spec = faulty_backend.spec(counters, scheduled, bundle=bundle.folder)
        return Ladder([Rung("cpu", Worker(spec, golden_check(bundle)))])

    monkeypatch.setattr(daemon_module, "open_ladder", opened)
    monkeypatch.setattr(model_module, "LOOK_S", 0.02)
    monkeypatch.setattr(model_module, "PROBATION_S", 1.0)
    return scheduled


def begin(ledger: Ledger) -> None:
    """Make the new bundle provisional, as if the command's own self-test had not noticed anything."""
    activate(ledger, Order(NEW, DEMO_TRUST), test=lambda _: None)


def wait_for(ledger: Ledger, condition: Callable[[Activation], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition(ledger.read()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def answers(commits: Commits, names: Sequence[str]) -> dict[str, Finished]:
    return {
        name: found for name, found in commits.wait(lambda by_name: set(by_name) >= set(names)).items() if name in names
    }


def labels(found: dict[str, Finished]) -> set[str]:
    return {finished.answer.model_version for finished in found.values() if finished.answer is not None}


def test_captures_go_on_while_the_model_is_exchanged(
    config: Path, ledger: Ledger, demo_bundle: Path, tmp_path: Path, faults: dict[str, str]
) -> None:
    faults["1"] = "stay:wrong"  # the new model's answers are the old one's, moved by one class
    new_version(demo_bundle, ledger.models, "9.0.0", other_answers)
    scope, outside = tmp_path / "scope-1", tmp_path / "outside"
    outside.mkdir()
    stock = captures(outside, 80)
    names: list[str] = []
    with running(config) as (daemon, commits):
        assert daemon.wait_ready(20)
        after = 0
        while after < 4 and stock:  # captures come before, while and after the new one takes over
            names.append(stock.pop())
            (outside / names[-1]).rename(scope / names[-1])
            if len(names) == 4:
                answers(commits, names)
                begin(ledger)
            after += daemon.model.serving.bundle.label == NEW
            time.sleep(0.1)
        found = answers(commits, names)
        wait_for(ledger, lambda state: state.active is not None and state.active.bundle == NEW, "the commit")
        assert daemon.model.serving.bundle.label == NEW
    assert labels(found) == {f"demo/{demo_bundle.name}", NEW}
    for name in names:  # the right answers, from a bundle that a run without the daemon takes
        (scope / name).rename(outside / name)
    right = right_answers(outside, names)
    for name, finished in found.items():
        assert finished.answer is not None, finished.sentence
        expected = np.array(right[name])
        if finished.answer.model_version == NEW:
            expected = np.roll(expected, 1)
        values = list(finished.answer.diagnosis.all_classes.values())
        np.testing.assert_allclose(values, expected, atol=1e-4, err_msg=f"{name}: {finished.answer.model_version}")


def right_answers(folder: Path, names: Sequence[str]) -> dict[str, list[float]]:
    import json

    command = [sys.executable, "-m", "agent.cli", "analyze", "--json", *(str(folder / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=25, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(line["path"]).name: list(line["diagnosis"]["all_classes"].values()) for line in lines}


@pytest.mark.fault("F14")
def test_a_bundle_whose_engine_fails_its_golden_image_never_answers(
    config: Path, ledger: Ledger, demo_bundle: Path, tmp_path: Path, faults: dict[str, str]
) -> None:
    new_version(demo_bundle, ledger.models, "9.0.0", wrong_golden)
    with running(config) as (daemon, commits):
        begin(ledger)
        names = captures(tmp_path / "scope-1", 4)
        found = answers(commits, names)
        wait_for(ledger, lambda state: bool(state.failures), "the failure")
        assert daemon.model.serving.bundle.label == f"demo/{demo_bundle.name}"
    assert labels(found) == {f"demo/{demo_bundle.name}"}
    state = ledger.read()
    assert "golden image" in state.failures[-1].reason
    assert (state.active and state.active.bundle, state.candidate) == (f"demo/{demo_bundle.name}", None)


@pytest.mark.fault("F12")
def test_an_engine_that_dies_on_pictures_in_its_probation_is_taken_back_and_no_capture_is_refused(
    config: Path, ledger: Ledger, demo_bundle: Path, faults: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = config.parent / "scope-1"
    # Golden images are right, and every picture of a patient kills it: run 1 is the first golden image.
    monkeypatch.setattr(model_module, "PROBATION_S", 60.0)
    faults.update({str(run): "exit" for run in range(2, 200, 2)})
    new_version(demo_bundle, ledger.models, "9.0.0")
    with running(config) as (daemon, commits):
        assert daemon.wait_ready(20)
        begin(ledger)
        deadline = time.monotonic() + 20
        while daemon.model.serving.bundle.label != NEW and time.monotonic() < deadline:
            time.sleep(0.01)
        assert daemon.model.serving.bundle.label == NEW
        found = answers(commits, captures(scope, 4))
        wait_for(ledger, lambda state: bool(state.failures), "the failure")
    assert all(finished.answer is not None for finished in found.values()), [f.sentence for f in found.values()]
    assert f"demo/{demo_bundle.name}" in labels(found)
    assert ledger.read().active == daemon.model.serving.installed


def test_killed_in_the_probation_the_agent_starts_with_the_committed_bundle(
    config: Path, ledger: Ledger, demo_bundle: Path
) -> None:
    """The real process and SIGKILL, and then one that comes to a trial again."""
    new_version(demo_bundle, ledger.models, "9.0.0")
    begin(ledger)
    for trials in (1, 2):
        command = [sys.executable, "-m", "agent.cli", "run", "--config", str(config)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        lines: list[str] = []
        while not lines or "answers from now on" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], "".join(lines)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        text = "".join(lines)
        # The committed bundle's engine is there before the one on trial may answer.
        assert NEW in lines[-1], text
        state = ledger.read()
        assert (state.active and state.active.bundle) == f"demo/{demo_bundle.name}"
        assert state.candidate is not None
        assert (state.candidate.installed.bundle, state.candidate.trials) == (NEW, trials)
