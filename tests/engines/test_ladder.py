"""The ladder: the first rung that can answers in time, and the reasons of the others are kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engines.backend import BackendFailed, DeadlineExceeded, EngineError, Images, NotReady, Output
from engines.backoff import Backoff
from engines.bundle import load_bundle
from engines.ladder import Ladder, LadderExhausted, Rung, open_ladder
from engines.proven import WorkerSettings
from engines.supervisor import Worker
from tests.fakes import faulty_backend as fake

IMAGES = np.zeros((1, 3, 32, 32), np.float32)
ANSWER = Output(np.full((1, 7), 1 / 7, np.float32), np.zeros((1, 14, 14), np.float32))


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scripted:
    """A runner that takes its time on a fake clock, and fails as told."""

    clock: Clock
    takes_s: float = 0.1
    failures: list[EngineError | None] = field(default_factory=list)
    ready: bool = True
    typical_run_s: float | None = 0.1
    last_failure: str | None = None
    granted: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.ready = True

    def stop(self) -> None:
        self.ready = False

    def wait_ready(self, timeout_s: float) -> bool:
        return self.ready

    def run(self, images: Images, timeout_s: float) -> Output:
        self.granted.append(timeout_s)
        failure = self.failures.pop(0) if self.failures else None
        self.clock.now += min(self.takes_s, timeout_s)
        if failure is not None:
            raise failure
        if self.takes_s > timeout_s:
            raise DeadlineExceeded("too slow", on_images=True)
        return ANSWER


def ladder_of(clock: Clock, **runners: Scripted) -> Ladder:
    """Rungs whose back-off after the first failure lasts 5 s."""
    rungs = [
        Rung(name, runner, Backoff(base_s=5.0, clock=clock, uniform=lambda low, high: high))
        for name, runner in runners.items()
    ]
    return Ladder(rungs, clock=clock)


def test_the_first_rung_answers() -> None:
    clock = Clock()
    top, bottom = Scripted(clock), Scripted(clock)
    result = ladder_of(clock, top=top, cpu=bottom).run(IMAGES, 3.0)
    assert (result.backend, result.passed_over) == ("top", ())
    assert result.run_ms == pytest.approx(100)
    assert bottom.granted == []


def test_a_failed_rung_is_passed_over_until_its_back_off_is_over() -> None:
    clock = Clock()
    top, bottom = Scripted(clock, failures=[BackendFailed("Xid 79", on_images=True)]), Scripted(clock)
    ladder = ladder_of(clock, top=top, cpu=bottom)
    first = ladder.run(IMAGES, 3.0)
    assert (first.backend, first.passed_over) == ("cpu", (("top", "Xid 79"),))
    second = ladder.run(IMAGES, 3.0)
    assert second.passed_over == (("top", "left alone for a while after a failure"),)
    assert len(top.granted) == 1
    clock.now += 5.0
    assert ladder.run(IMAGES, 3.0).backend == "top"


def test_an_upper_rung_leaves_time_for_those_below() -> None:
    clock = Clock()
    top, middle, bottom = Scripted(clock, takes_s=9.0), Scripted(clock, takes_s=9.0), Scripted(clock, typical_run_s=1.0)
    middle.typical_run_s = None
    started = clock.now
    result = ladder_of(clock, top=top, cloud=middle, cpu=bottom).run(IMAGES, 3.0)
    assert top.granted == [pytest.approx(3.0 - 0.3 * 3.0 - 1.5 * 1.0)]
    assert middle.granted == [pytest.approx(3.0 - top.granted[0] - 1.5 * 1.0)]
    assert result.backend == "cpu"
    assert [name for name, _ in result.passed_over] == ["top", "cloud"]
    assert clock.now - started <= 3.0


@pytest.mark.fault("F26")
def test_a_slow_cloud_leaves_a_quick_last_rung_time_to_be_slow_for_once() -> None:
    clock = Clock()
    cloud, bottom = Scripted(clock, takes_s=9.0), Scripted(clock, takes_s=0.8, typical_run_s=0.05)
    result = ladder_of(clock, cloud=cloud, cpu=bottom).run(IMAGES, 3.0)
    assert cloud.granted == [pytest.approx(2.1)]
    assert (result.backend, len(bottom.granted)) == ("cpu", 1)


def test_a_rung_that_is_not_ready_or_too_slow_is_passed_over() -> None:
    clock = Clock()
    asleep, slow, bottom = Scripted(clock, ready=False), Scripted(clock, typical_run_s=2.9), Scripted(clock)
    result = ladder_of(clock, asleep=asleep, slow=slow, cpu=bottom).run(IMAGES, 3.0)
    assert result.passed_over == (
        ("asleep", "not ready"),
        ("slow", "would not finish in its share of the deadline"),
    )
    assert asleep.granted == slow.granted == []


def test_the_last_rung_gets_a_second_try_and_grace() -> None:
    clock = Clock()
    bottom = Scripted(clock, takes_s=5.0, failures=[None])
    result = ladder_of(clock, cpu=bottom).run(IMAGES, 3.0)
    assert bottom.granted == [pytest.approx(3.0), pytest.approx(10.0)]
    assert (result.backend, result.passed_over) == ("cpu", (("cpu", "too slow"),))


def test_a_last_rung_known_to_be_slow_is_not_cut_off() -> None:
    clock = Clock()
    bottom = Scripted(clock, takes_s=4.0, typical_run_s=2.0)
    assert ladder_of(clock, cpu=bottom).run(IMAGES, 3.0).passed_over == ()


@pytest.mark.parametrize(
    ("failures", "healthy"),
    [
        ([NotReady("starting"), NotReady("starting")], False),
        ([BackendFailed("golden image: off"), NotReady("backing off")], False),
        ([BackendFailed("it raised", on_images=True), NotReady("backing off")], True),
    ],
)
def test_when_nobody_answers_it_is_known_whether_the_picture_may_be_to_blame(
    failures: list[EngineError | None], healthy: bool
) -> None:
    clock = Clock()
    with pytest.raises(LadderExhausted) as caught:
        ladder_of(clock, cpu=Scripted(clock, failures=failures)).run(IMAGES, 3.0)
    assert caught.value.engine_was_healthy is healthy
    assert len(caught.value.reasons) == 2
    assert "cpu: " in str(caught.value)


@pytest.mark.fault("F12")
@pytest.mark.parametrize("fault", ["raise", "hang", "exit", "segfault", "nan", "shape"])
def test_through_any_fault_the_capture_gets_its_right_answer(tmp_path: Path, fault: str) -> None:
    worker = Worker(fake.spec(tmp_path, {"3": fault}), fake.golden())
    ladder = Ladder([Rung("cpu", worker)])
    ladder.start()
    try:
        assert ladder.wait_ready(10)
        for seed in range(1, 4):
            images = fake.picture(seed)
            result = ladder.run(images, 1.0)
            np.testing.assert_allclose(result.output.probabilities, fake.right_answer(images).probabilities, atol=1e-6)
            assert len(result.passed_over) == (1 if seed == 2 else 0)
    finally:
        ladder.stop()


@pytest.mark.fault("F12")
def test_a_fault_of_the_real_engine_is_overcome(tmp_path: Path, demo_bundle: Path) -> None:
    from engines.golden import golden_check

    golden = golden_check(load_bundle(demo_bundle))
    worker = Worker(fake.spec(tmp_path, {"2": "segfault", "3": "wrong"}, bundle=demo_bundle), golden)
    ladder = Ladder([Rung("cpu", worker)])
    ladder.start()
    try:
        assert ladder.wait_ready(20)
        golden.check(ladder.run(golden.images, 5.0).output)
        assert worker.faults == 2, "the crash, and the wrong golden image of the first engine after it"
    finally:
        ladder.stop()


@pytest.mark.parametrize("names", [[], ["gpu"], ["cpu", "cpu"], ["cpu", "CPU"]])
def test_an_unknown_rung_is_refused(demo_bundle: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"different names out of \['tensorrt', 'cloud', 'cpu'\]"):
        open_ladder(names, load_bundle(demo_bundle))


@pytest.mark.fault("F12")
@pytest.mark.parametrize("captures", [40, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_through_a_storm_of_faults_every_capture_gets_its_own_right_answer(tmp_path: Path, captures: int) -> None:
    chance = np.random.default_rng(captures)
    kinds = ["raise", "hang", "exit", "segfault", "nan", "shape", "stay:not_summing", "slow:0.1"]
    faults = {str(run): str(chance.choice(kinds)) for run in range(2, 3 * captures) if chance.random() < 0.12}
    backoff = Backoff(base_s=0.01, cap_s=0.05)
    settings = WorkerSettings(start_timeout_s=2.0, golden_timeout_s=0.5)
    worker = Worker(fake.spec(tmp_path, faults), fake.golden(), settings=settings, backoff=backoff)
    ladder = Ladder([Rung("cpu", worker)])
    ladder.start()

    def answered(seed: int) -> bool:
        """Ask as the daemon does, which retries a capture that no rung answered."""
        images = fake.picture(seed)
        for _ in range(5):
            try:
                output = ladder.run(images, 0.5).output
            except LadderExhausted:
                continue
            np.testing.assert_allclose(output.probabilities, fake.right_answer(images).probabilities, atol=1e-6)
            return True
        return False

    try:
        with ThreadPoolExecutor(3) as pool:
            assert all(pool.map(answered, range(1, captures + 1)))
        assert worker.faults >= captures // 20
    finally:
        ladder.stop()
