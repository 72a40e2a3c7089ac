"""The model that runs: tried beside the old one, committed or taken back, and never a mixture (F27)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from agent.config import InferenceSection
from agent.model import RunningModel, choose_bundle
from agent.trial import FAULTS_AT_WORK, FAULTS_WHEN_NEW, PATIENCE_S, PROBATION_S
from engines import files
from engines.backend import BundleError, Images, Output
from engines.bundle import Bundle
from engines.installed.activation import MAX_TRIALS, Installed, Stage, roll_back
from engines.installed.ledger import Ledger
from engines.installed.steps import Order, activate
from engines.ladder import Ladder, Rung
from engines.trust.verifying import DEMO_TRUST
from tests.fakes.bundles import replace_file, small_bundle

pytestmark = pytest.mark.fault("F27")

OLD, NEW = "demo/1.0.0", "demo/2.0.0"
GOLDEN = "golden image: its probabilities are off by 0.4000: this engine computes wrong numbers"


@dataclass
class FakeRunner:
    """A rung whose health the test decides."""

    ready: bool = False
    faults: int = 0
    last_failure: str | None = None
    typical_run_s: float | None = None
    events: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.ready = False
        self.events.append("stop")

    def wait_ready(self, timeout_s: float) -> bool:
        return self.ready

    def run(self, images: Images, timeout_s: float) -> Output:
        return Output(np.zeros((1, 7), np.float32), np.zeros((1, 14, 14), np.float32))

    def fail(self, why: str, faults: int = 1) -> None:
        self.ready, self.last_failure = False, why
        self.faults += faults


class Scene:
    """A models folder, a running model on fake ladders and a clock."""

    def __init__(self, models: Path, demo: Path) -> None:
        self.ledger, self.demo = Ledger(models), demo
        self.now = 100.0
        self.ladders: dict[str, list[Ladder]] = {}
        self.exchanges: list[str] = []
        self.rungs = ("tensorrt", "cpu")
        self.section = InferenceSection(models=models, require_trusted=False, deadline_s=3.0)

    def install(self, label: str) -> str:
        return small_bundle(self.demo, self.ledger.models / label, label.encode()).name

    def activate(self, label: str, *, again: bool = False) -> None:
        activate(self.ledger, Order(label, DEMO_TRUST, again=again), test=lambda _: None)

    def open_ladder(self, bundle: Bundle) -> Ladder:
        ladder = Ladder([Rung(name, FakeRunner()) for name in self.rungs])
        self.ladders.setdefault(bundle.label, []).append(ladder)
        return ladder

    def model(self) -> RunningModel:
        """A started model, looked after by the test."""
        model = RunningModel(self.section, self.open_ladder, clock=lambda: self.now)
        model._on_exchange = lambda bundle, ladder: self.exchanges.append(self.named(bundle, ladder))
        model.start()
        return model

    def named(self, bundle: Bundle, ladder: Ladder) -> str:
        assert ladder in self.ladders[bundle.label], "a ladder of another bundle"
        return bundle.label

    def runner(self, label: str, rung: str = "cpu") -> FakeRunner:
        """Of the latest ladder of a bundle."""
        (found,) = [one.runner for one in self.ladders[label][-1].rungs if one.name == rung]
        assert isinstance(found, FakeRunner)
        return found

    def ready(self, label: str) -> None:
        for rung in self.rungs:
            self.runner(label, rung).ready = True

    def active(self) -> str | None:
        return installed.bundle if (installed := self.ledger.read().active) else None


@pytest.fixture
def scene(tmp_path: Path, demo_bundle: Path) -> Scene:
    (tmp_path / "models").mkdir()
    made = Scene(tmp_path / "models", demo_bundle)
    made.install(OLD)
    made.install(NEW)
    return made


@pytest.fixture
def old(scene: Scene) -> RunningModel:
    """The old bundle is committed and answers; the way there is a first activation."""
    scene.activate(OLD)
    model = scene.model()
    assert model.serving.bundle.label == OLD
    assert scene.exchanges == []
    scene.ready(OLD)
    model.look()
    scene.now += PROBATION_S
    model.look()
    assert (scene.active(), model.trial) == (OLD, None)
    return model


def stage_of(scene: Scene) -> Stage | None:
    candidate = scene.ledger.read().candidate
    return candidate.stage if candidate else None


def test_a_named_bundle_is_run_and_no_folder_is_followed(demo_bundle: Path, scene: Scene) -> None:
    section = InferenceSection(bundle=demo_bundle, require_trusted=False)
    model = RunningModel(section, scene.open_ladder)
    model.start()
    model.follow(lambda *_: None)
    assert not model._thread.is_alive()
    assert model.serving.bundle.folder == demo_bundle
    model.stop()
    assert scene.runner(model.serving.bundle.label).events == ["start", "stop"]
    with pytest.raises(BundleError, match="require_trusted = true refuses it"):
        RunningModel(InferenceSection(bundle=demo_bundle), scene.open_ladder).start()


def test_nothing_active_is_said_so(scene: Scene) -> None:
    for attempt in (scene.model, lambda: choose_bundle(scene.section)):
        with pytest.raises(BundleError, match="no bundle is active here; install one with"):
            attempt()


def test_the_new_bundle_answers_once_it_is_ready_and_is_committed_after_its_probation(
    scene: Scene, old: RunningModel
) -> None:
    scene.activate(NEW)
    old.look()
    old.look()
    assert (old.serving.bundle.label, scene.exchanges) == (OLD, [])
    scene.ready(NEW)
    old.look()
    assert (old.serving.bundle.label, scene.exchanges) == (NEW, [NEW])
    assert scene.runner(OLD).ready, "the old engine must be kept warm"
    scene.now += PROBATION_S - 1
    old.look()
    assert (scene.active(), stage_of(scene)) == (OLD, Stage.PROVISIONAL)
    scene.now += 1
    old.look()
    assert (scene.active(), stage_of(scene)) == (NEW, None)
    assert scene.runner(OLD).ready, "analyses that began on it may still run"
    scene.now += 60
    old.look()
    assert scene.runner(OLD).events == ["start", "stop"]
    assert choose_bundle(scene.section).label == NEW


def test_the_upper_engine_is_waited_for_while_the_old_one_has_it(scene: Scene, old: RunningModel) -> None:
    scene.activate(NEW)
    old.look()
    scene.runner(NEW, "cpu").ready = True  # TensorRT still compiles
    old.look()
    assert old.serving.bundle.label == OLD
    scene.now += PATIENCE_S
    old.look()
    assert old.serving.bundle.label == NEW


def test_the_upper_engine_is_not_waited_for_where_the_old_one_has_none(scene: Scene, old: RunningModel) -> None:
    scene.runner(OLD, "tensorrt").ready = False
    scene.activate(NEW)
    old.look()
    scene.runner(NEW, "cpu").ready = True
    old.look()
    assert old.serving.bundle.label == NEW


@pytest.mark.fault("F14")
def test_a_wrong_golden_image_ends_the_trial_before_any_patient(scene: Scene, old: RunningModel) -> None:
    scene.activate(NEW)
    old.look()
    scene.runner(NEW).fail(GOLDEN)
    old.look()
    assert (old.serving.bundle.label, scene.exchanges) == (OLD, [])
    assert scene.runner(NEW).events == ["start", "stop"]
    state = scene.ledger.read()
    assert (scene.active(), state.candidate, state.failures[-1].reason) == (OLD, None, GOLDEN)
    scene.now += 3600
    old.look()
    assert len(scene.ladders[NEW]) == 1, "what was given up is not tried again by itself"
    scene.activate(NEW, again=True)
    old.look()
    assert len(scene.ladders[NEW]) == 2


def test_an_engine_that_does_not_start_is_given_up(scene: Scene, old: RunningModel) -> None:
    scene.activate(NEW)
    old.look()
    scene.runner(NEW).fail("opening the backend: out of memory", FAULTS_WHEN_NEW - 1)
    old.look()
    assert stage_of(scene) is Stage.PROVISIONAL
    scene.runner(NEW).fail("opening the backend: out of memory")
    old.look()
    assert scene.ledger.read().failures[-1].reason == "opening the backend: out of memory"
    assert old.serving.bundle.label == OLD


@pytest.mark.parametrize(("why", "faults"), [(GOLDEN, 1), ("running: killed by SIGSEGV", FAULTS_AT_WORK)])
def test_a_doubt_in_the_probation_brings_the_old_one_back_at_once(
    scene: Scene, old: RunningModel, why: str, faults: int
) -> None:
    scene.activate(NEW)
    old.look()
    scene.runner(NEW).fail("opening the backend: a fluke", FAULTS_WHEN_NEW - 1)  # before it answered: does not count
    scene.ready(NEW)
    old.look()
    assert scene.exchanges == [NEW]
    scene.now += 10
    old.look()
    assert scene.exchanges == [NEW]
    scene.runner(NEW).fail(why, faults)
    old.look()
    assert scene.exchanges == [NEW, OLD]
    assert scene.ledger.read().failures[-1].reason == why
    assert (scene.active(), stage_of(scene)) == (OLD, None)
    assert scene.runner(NEW).events == ["start", "stop"], "what it was asked must come to the old one at once"
    scene.now += 60
    old.look()
    assert scene.runner(OLD).events == ["start"]


def test_one_fault_in_the_probation_may_be_the_pictures(scene: Scene, old: RunningModel) -> None:
    scene.activate(NEW)
    old.look()
    scene.ready(NEW)
    old.look()
    scene.runner(NEW).fail("running: killed by SIGSEGV")
    old.look()
    assert scene.exchanges == [NEW]


@pytest.mark.parametrize("answers", [False, True])
def test_a_rollback_by_hand_ends_the_trial(scene: Scene, old: RunningModel, answers: bool) -> None:
    scene.activate(NEW)
    old.look()
    if answers:
        scene.ready(NEW)
        old.look()
    scene.ledger.change(roll_back)
    old.look()
    assert old.serving.bundle.label == OLD
    assert scene.exchanges == ([NEW, OLD] if answers else [])
    assert scene.ledger.read().failures == ()


def test_a_rollback_to_the_bundle_before_is_followed_without_a_probation(scene: Scene, old: RunningModel) -> None:
    scene.activate(NEW)
    old.look()
    scene.ready(NEW)
    old.look()
    scene.now += PROBATION_S
    old.look()
    scene.ledger.change(roll_back)
    old.look()
    assert old.serving.bundle.label == NEW
    scene.ready(OLD)
    old.look()
    assert (old.serving.bundle.label, old.trial, scene.active()) == (OLD, None, OLD)
    assert len(scene.ladders[OLD]) == 2


def test_a_target_that_fails_leaves_the_running_one(scene: Scene, old: RunningModel) -> None:
    test_the_new_bundle_answers_once_it_is_ready_and_is_committed_after_its_probation(scene, old)
    scene.ledger.change(roll_back)
    old.look()
    scene.runner(OLD).fail(GOLDEN)
    old.look()
    assert (old.serving.bundle.label, old.trial) == (NEW, None)


def test_another_activation_takes_the_trials_place(scene: Scene, old: RunningModel) -> None:
    third = "demo/3.0.0"
    scene.install(third)
    scene.activate(NEW)
    old.look()
    scene.activate(third)
    old.look()
    assert old.trial is not None
    assert old.trial.engine.bundle.label == third
    assert scene.runner(NEW).events == ["start", "stop"]


def test_a_bundle_that_was_damaged_since_is_given_up(scene: Scene, old: RunningModel) -> None:
    scene.activate(NEW)
    replace_file(scene.ledger.models / NEW, "model.onnx", b"another, signed")
    old.look()
    assert NEW not in scene.ladders
    assert "another bundle lies here" in scene.ledger.read().failures[-1].reason


def test_a_damaged_ledger_stops_nothing_and_is_told_once(
    scene: Scene, old: RunningModel, caplog: pytest.LogCaptureFixture
) -> None:
    scene.ledger.path.write_bytes(b"{")
    with pytest.raises(BundleError, match=r"active.json"):
        old.look()  # the thread logs it
    old.look()  # not looked at again until it changes
    assert old.serving.bundle.label == OLD


def test_restarts_come_to_an_end_and_only_crashes_count(scene: Scene, old: RunningModel) -> None:
    old.stop()
    scene.activate(NEW)
    for _ in range(MAX_TRIALS + 2):
        scene.model().stop()  # in order
    assert stage_of(scene) is Stage.PROVISIONAL
    for _ in range(MAX_TRIALS):
        assert scene.model().trial is not None  # and it dies: nobody stops it
    last = scene.model()
    assert last.trial is None
    assert last.serving.bundle.label == OLD
    assert "trials of it ended without a result" in scene.ledger.read().failures[-1].reason


def test_after_a_death_in_the_probation_the_old_one_answers_until_the_new_one_is_ready(
    scene: Scene, old: RunningModel
) -> None:
    scene.activate(NEW)
    old.look()
    scene.ready(NEW)
    old.look()
    after = scene.model()  # the former one died
    assert after.serving.bundle.label == OLD
    scene.ready(NEW)
    after.look()
    assert after.serving.bundle.label == NEW


def test_the_first_bundle_of_all_has_nothing_to_go_back_to(scene: Scene) -> None:
    scene.activate(NEW)
    model = scene.model()
    assert model.serving.bundle.label == NEW
    scene.runner(NEW).fail(GOLDEN)
    model.look()
    assert scene.runner(NEW).events == ["start", "stop"], "it was given up and must answer nothing"
    assert (scene.active(), stage_of(scene)) == (None, None)
    scene.activate(OLD)  # and another one comes
    model.look()
    scene.ready(OLD)
    model.look()
    assert (model.serving.bundle.label, scene.exchanges) == (OLD, [OLD])
    scene.now += PROBATION_S
    model.look()
    assert scene.active() == OLD


def test_a_damaged_committed_bundle_ends_the_start_unless_a_new_one_is_there(scene: Scene, old: RunningModel) -> None:
    old.stop()
    (scene.ledger.models / OLD / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"model.onnx: the file was changed or damaged"):
        scene.model()
    scene.activate(NEW)
    model = scene.model()
    assert model.serving.bundle.label == NEW
    scene.ready(NEW)
    model.look()
    scene.now += PROBATION_S
    model.look()
    assert scene.active() == NEW


def test_a_full_disk_puts_the_commit_off(
    scene: Scene, old: RunningModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.activate(NEW)
    old.look()
    scene.ready(NEW)
    old.look()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        scene.now += PROBATION_S
        old.look()
        old.look()
    assert old.serving.bundle.label == NEW
    assert scene.active() == OLD
    assert caplog.text.count("No space left") == 1, "a lasting fault fills no disk (F28)"
    scene.now += PROBATION_S
    old.look()
    assert scene.active() == NEW


def test_stopping_stops_every_ladder_once_begun(scene: Scene, old: RunningModel) -> None:
    scene.activate(NEW)
    old.look()
    scene.ready(NEW)
    old.look()
    old.stop()
    for label in (OLD, NEW):
        assert scene.runner(label).events[0] == "start"
        assert scene.runner(label).events[-1] == "stop"
    candidate = scene.ledger.read().candidate
    assert candidate is not None
    assert candidate.trials == 0


def test_the_watch_goes_on_after_an_unforeseen_fault(
    scene: Scene, old: RunningModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.model.LOOK_S", 0.01)
    looked = threading.Semaphore(0)

    def look() -> None:
        looked.release()
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(old, "look", look)
    old.follow(lambda *_: None)
    assert all(looked.acquire(timeout=10) for _ in range(3))
    old.stop()


def test_the_names_are_of_installed_bundles(scene: Scene, old: RunningModel) -> None:
    assert old.serving.installed == Installed(bundle=OLD, manifest_sha256=old.serving.bundle.manifest_sha256)
