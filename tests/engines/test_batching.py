"""Requests that wait at the same time share a run; a fault in a shared run blames nobody until they ran alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest

from engines.backend import BackendFailed, EngineError, Output
from engines.backoff import Backoff
from engines.proven import WorkerSettings
from engines.requests import Request, Requests
from engines.supervisor import Worker
from tests.fakes import faulty_backend as fake


class Crowd:
    """A worker whose second run (the first after its golden image) is slow, so that later requests pile up."""

    def __init__(self, folder: Path, faults: dict[str, str], max_batch: int = 4) -> None:
        self.folder = folder
        backoff = Backoff(base_s=0.01, cap_s=0.05)
        settings = WorkerSettings(max_batch=max_batch)
        self.worker = Worker(
            fake.spec(folder, {"2": "slow:0.3", **faults}), fake.golden(), settings=settings, backoff=backoff
        )
        self.pool = ThreadPoolExecutor(16)

    def arrive(self, count: int, first_seed: int = 10, timeout_s: float = 10.0) -> list[Future[Output]]:
        """One request that takes long, and ``count`` behind it that wait for it together."""
        self.worker.start()
        assert self.worker.wait_ready(10)
        begun = self.pool.submit(self.worker.run, fake.picture(1), 10.0)
        self._until(lambda: fake.count(self.folder, "run") == 2)
        behind = []
        for seed in range(first_seed, first_seed + count):
            behind.append(self.pool.submit(self.worker.run, fake.picture(seed), timeout_s))
            self._until(lambda: len(self.worker._queue) == len(behind))
        begun.result(10)
        wait(behind, 10)
        return behind

    @staticmethod
    def _until(condition: object) -> None:
        end = time.monotonic() + 5
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < end
            time.sleep(0.001)


@pytest.fixture
def crowd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Crowd]:
    made = Crowd(tmp_path, *getattr(request, "param", ({},)))
    yield made
    made.worker.stop()
    made.pool.shutdown()


def assert_own_answer(output: Output, seed: int) -> None:
    right = fake.right_answer(fake.picture(seed))
    np.testing.assert_allclose(output.probabilities, right.probabilities, atol=1e-6)
    np.testing.assert_allclose(output.attention, right.attention, atol=1e-6)


@pytest.mark.requirement("R-ANS-5")
def test_those_who_wait_share_a_run_and_each_gets_its_own_answer(crowd: Crowd) -> None:
    for seed, answer in enumerate(crowd.arrive(4), start=10):
        assert_own_answer(answer.result(), seed)
    assert fake.count(crowd.folder, "run") == 3, "golden image, the slow one, and one run for four"


def test_a_run_holds_no_more_than_the_limit(crowd: Crowd) -> None:
    for seed, answer in enumerate(crowd.arrive(6), start=10):
        assert_own_answer(answer.result(), seed)
    assert fake.count(crowd.folder, "run") == 4, "golden image, the slow one, four and two"


@pytest.mark.parametrize("crowd", [({}, 1)], indirect=True)
def test_a_limit_of_one_runs_each_alone(crowd: Crowd) -> None:
    crowd.arrive(3)
    assert fake.count(crowd.folder, "run") == 5


@pytest.mark.fault("F12")
@pytest.mark.parametrize("crowd", [({"3": "raise"},)], indirect=True)
def test_a_fault_in_a_shared_run_blames_nobody_and_then_each_runs_alone(crowd: Crowd) -> None:
    for answer in crowd.arrive(3):
        with pytest.raises(BackendFailed, match="CUDA error") as caught:
            answer.result()
        assert not caught.value.on_images, "it is not known whose picture it was"
    again = [crowd.pool.submit(crowd.worker.run, fake.picture(seed), 10.0) for seed in (10, 11, 12)]
    for seed, answer in enumerate(again, start=10):
        assert_own_answer(answer.result(10), seed)
    runs = fake.count(crowd.folder, "run")
    assert runs == 3 + 1 + 3, "a new golden image, and three runs of their own"


@pytest.mark.fault("F12")
@pytest.mark.parametrize("crowd", [({"3": "raise", "6": "raise"},)], indirect=True)
def test_the_one_that_fails_alone_is_to_blame(crowd: Crowd) -> None:
    crowd.arrive(3)
    blamed = []
    for seed in (10, 11, 12):  # golden image is run 4, so the second of these is run 6
        try:
            crowd.worker.run(fake.picture(seed), 10.0)
        except EngineError as error:
            blamed.append((seed, error.on_images))
    assert blamed == [(11, True)]


def test_the_golden_image_is_due_by_pictures_not_by_runs(tmp_path: Path) -> None:
    worker = Worker(fake.spec(tmp_path), fake.golden(), settings=WorkerSettings(recheck_every=8))
    worker.start()
    images = np.concatenate([fake.picture(seed) for seed in range(4)])
    worker.run(images, 10)
    assert worker.rechecks == 0
    assert fake.count(tmp_path, "run") == 2
    worker.run(images, 10)
    assert fake.count(tmp_path, "run") == 4, "two batches, and the golden image at the start and after eight pictures"
    worker.stop()


def waiting(*deadlines: float, pictures: int = 1) -> Requests:
    queue = Requests()
    for deadline in deadlines:
        queue.add(Request(np.concatenate([fake.picture(0)] * pictures), 1.0, deadline))
    return queue


def test_only_those_whose_deadline_allows_share_a_run() -> None:
    def in_time(request: Request, pictures: int) -> bool:
        return request.deadline >= pictures

    queue = waiting(3.0, 2.0, 9.0)
    assert [request.deadline for request in queue.take(4, in_time)] == [3.0, 2.0], "a third would make the second late"
    assert [request.deadline for request in queue.take(4, in_time)] == [9.0]
    assert queue.take(4, in_time) == []


def test_a_request_that_brings_more_than_the_limit_runs_alone() -> None:
    queue = waiting(9.0, 9.0, pictures=5)
    assert len(queue.take(4, lambda *_: True)) == 1
    assert len(queue.take(4, lambda *_: True)) == 1


def test_callers_who_gave_up_are_passed_over() -> None:
    queue = waiting(1.0, 2.0, 3.0)
    queue._waiting[0].answer.cancel()
    queue._waiting[1].answer.cancel()
    assert [request.deadline for request in queue.take(4, lambda *_: True)] == [3.0]
