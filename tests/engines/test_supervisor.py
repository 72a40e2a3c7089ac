"""The worker through every fault of its backend: no wrong answer leaves, and the next one is right again."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from engines.backend import BackendFailed, BackendSpec, DeadlineExceeded, EngineError, NotReady, WorkerDied
from engines.backoff import Backoff
from engines.proven import WorkerSettings
from engines.supervisor import Worker, WorkerState
from tests.fakes import faulty_backend as fake

MakeWorker = Callable[..., Worker]


def soon() -> Backoff:
    return Backoff(base_s=0.01, cap_s=0.05)


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[MakeWorker]:
    made: list[Worker] = []

    def make(
        faults: dict[str, str] | None = None, *, settings: WorkerSettings | None = None, backoff: Backoff | None = None
    ) -> Worker:
        worker = Worker(fake.spec(tmp_path, faults), fake.golden(), settings=settings, backoff=backoff or soon())
        made.append(worker)
        worker.start()
        return worker

    yield make
    pids = [worker.pid for worker in made]
    for worker in made:
        worker.stop()
    assert not [pid for pid in pids if pid and psutil.pid_exists(pid)]


def assert_right(worker: Worker, seed: int, timeout_s: float = 10.0) -> None:
    images = fake.picture(seed)
    output = worker.run(images, timeout_s)
    np.testing.assert_allclose(output.probabilities, fake.right_answer(images).probabilities, atol=1e-6)
    np.testing.assert_allclose(output.attention, fake.right_answer(images).attention, atol=1e-6)


@pytest.mark.requirement("R-ANS-5")
def test_answers_are_right_and_each_callers_own(make_worker: MakeWorker) -> None:
    worker = make_worker()
    assert worker.wait_ready(10)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: assert_right(worker, seed), range(1, 65)))
    assert worker.faults == 0
    assert worker.restarts == 0


def test_a_batch_is_answered_whole(make_worker: MakeWorker) -> None:
    worker = make_worker()
    images = np.concatenate([fake.picture(seed) for seed in range(5)])
    output = worker.run(images, 10)
    np.testing.assert_allclose(output.probabilities, fake.right_answer(images).probabilities, atol=1e-6)


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("raise", BackendFailed, "CUDA error 700"),
        ("exit", WorkerDied, "exit status 7"),
        ("segfault", WorkerDied, "SIGSEGV"),
        ("nan", BackendFailed, "not numbers"),
        ("nan_attention", BackendFailed, "not numbers"),
        ("negative_attention", BackendFailed, "negative"),
        ("not_summing", BackendFailed, "sum to 1"),
        ("outside", BackendFailed, "outside 0..1"),
        ("shape", BackendFailed, r"\[1, 5\]"),
        ("empty", BackendFailed, r"\[0, 7\]"),
        ("dtype", BackendFailed, "float64"),
    ],
)
def test_a_fault_gives_no_answer_and_the_next_one_is_right(
    make_worker: MakeWorker, fault: str, error: type[EngineError], words: str
) -> None:
    worker = make_worker({"3": fault})  # run 1 is the golden image
    assert worker.wait_ready(10)
    assert_right(worker, 1)
    suspect = worker.pid
    with pytest.raises(error, match=words) as caught:
        worker.run(fake.picture(2), 10)
    assert caught.value.on_images
    assert not worker.ready
    assert_right(worker, 2)
    assert worker.pid != suspect
    assert (worker.faults, worker.restarts) == (1, 1)
    assert worker.last_failure
    assert words.replace("\\", "") in worker.last_failure


@pytest.mark.fault("F12")
@pytest.mark.parametrize("fault", ["hang", "hang_in_library"])
def test_a_hang_ends_at_the_deadline_and_its_process_is_killed(make_worker: MakeWorker, fault: str) -> None:
    worker = make_worker({"2": fault})
    assert worker.wait_ready(10)
    suspect = worker.pid
    assert suspect
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.[23] s") as caught:
        worker.run(fake.picture(1), 0.2)
    assert caught.value.on_images
    assert time.monotonic() - started < 2
    assert eventually(lambda: not psutil.pid_exists(suspect))
    assert_right(worker, 1)


@pytest.mark.fault("F23")
@pytest.mark.parametrize("fault", ["raise", "hang", "exit", "nan"])
def test_the_picture_of_a_failed_run_is_let_go_at_once(make_worker: MakeWorker, fault: str) -> None:
    """In a circle of error, frames and promise it would stay until Python looks for such: 4 MB for an hour."""
    worker = make_worker({"2": fault})
    assert worker.wait_ready(10)

    def ask() -> weakref.ref[object]:
        picture = fake.picture(1)
        with pytest.raises(EngineError):
            worker.run(picture, 0.3)
        return weakref.ref(picture)

    gc.collect()
    gc.disable()
    try:
        held = ask()
        assert eventually(lambda: held() is None)
    finally:
        gc.enable()


@pytest.mark.fault("F12")
def test_an_answer_after_its_deadline_is_never_anothers(make_worker: MakeWorker) -> None:
    worker = make_worker({"2": "slow:0.3"})
    assert worker.wait_ready(10)
    with pytest.raises(DeadlineExceeded):
        worker.run(fake.picture(1), 0.15)
    for seed in range(2, 6):
        assert_right(worker, seed)


@pytest.mark.fault("F12")
def test_wrong_golden_numbers_keep_the_worker_from_accepting(make_worker: MakeWorker) -> None:
    worker = make_worker({str(run): "wrong" for run in range(1, 4)})
    while worker.faults < 3:
        assert not worker.ready or worker.faults >= 3
        time.sleep(0.001)
    assert "golden image" in str(worker.last_failure)
    assert "off by" in str(worker.last_failure)
    assert_right(worker, 1)
    assert worker.restarts == 3


@pytest.mark.fault("F12")
@pytest.mark.parametrize("fault", ["raise", "exit", "hang"])
def test_a_backend_that_cannot_be_opened_is_tried_again(make_worker: MakeWorker, fault: str) -> None:
    settings = WorkerSettings(start_timeout_s=1.0)
    worker = make_worker({"load:1": fault}, settings=settings)
    assert_right(worker, 1)
    assert worker.restarts == 1
    assert "opening the backend" in str(worker.last_failure)


def test_a_factory_that_is_not_there_is_said(tmp_path: Path) -> None:
    worker = Worker(BackendSpec("x", "engines.nothing_here:open", tmp_path), fake.golden(), backoff=soon())
    worker.start()
    assert eventually(lambda: worker.faults > 0)
    assert "No module named 'engines.nothing_here'" in str(worker.last_failure)
    worker.stop()


@pytest.mark.fault("F12")
def test_an_engine_gone_wrong_is_found_before_the_checked_answer_leaves(make_worker: MakeWorker) -> None:
    # Plausible but wrong numbers: only the golden image can tell. From run 5 on this process is poisoned.
    worker = make_worker({"5": "stay:wrong"}, settings=WorkerSettings(recheck_every=4))
    for seed in (1, 2, 3):
        assert_right(worker, seed)
    with pytest.raises(BackendFailed, match=r"golden image: .*off by") as caught:
        worker.run(fake.picture(4), 10)
    assert not caught.value.on_images, "the engine is to blame, not the picture"
    assert_right(worker, 4)


@pytest.mark.fault("F12")
def test_an_engine_gone_wrong_is_found_while_idle(make_worker: MakeWorker) -> None:
    worker = make_worker({"3": "stay:wrong"}, settings=WorkerSettings(idle_recheck_s=0.05))
    assert_right(worker, 1)
    assert eventually(lambda: worker.faults == 1)
    assert "golden image" in str(worker.last_failure)
    assert_right(worker, 2)


def test_a_pause_is_used_for_the_golden_image(make_worker: MakeWorker) -> None:
    worker = make_worker(settings=WorkerSettings(recheck_every=4, quiet_s=0.02))
    assert_right(worker, 1)
    assert_right(worker, 2)
    assert eventually(lambda: worker.rechecks == 1)
    assert worker.faults == 0


@pytest.mark.fault("F12")
def test_a_process_that_dies_while_idle_is_replaced_before_it_is_needed(make_worker: MakeWorker) -> None:
    worker = make_worker()
    assert worker.wait_ready(10)
    pid = worker.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: worker.ready and worker.pid != pid)
    assert "idle: the worker process ended (killed by SIGKILL)" in str(worker.last_failure)
    assert_right(worker, 1)


@pytest.mark.fault("F23")
def test_a_process_that_grew_is_replaced_between_requests(make_worker: MakeWorker) -> None:
    leaks = {str(run): "leak" for run in range(2, 5)}  # 64 MB each
    worker = make_worker(leaks, settings=WorkerSettings(growth_bytes=150 << 20, growth_share=0.0))
    assert worker.wait_ready(10)
    first = worker.pid
    for seed in range(1, 9):
        assert_right(worker, seed)
    assert worker.pid != first
    assert (worker.recycles, worker.restarts, worker.faults) == (1, 1, 0), "planned: no fault, no back-off"


def test_growth_within_the_limit_is_left_alone(make_worker: MakeWorker) -> None:
    worker = make_worker({"2": "leak"})
    for seed in range(1, 4):
        assert_right(worker, seed)
    assert worker.recycles == 0


def test_what_a_library_prints_does_not_reach_standard_output(
    make_worker: MakeWorker, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = make_worker({"2": "print"})
    assert_right(worker, 1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "chatter" in err


def test_requests_wait_while_the_worker_starts(make_worker: MakeWorker) -> None:
    worker = make_worker({"load:1": "slow:0.3"})
    assert worker.state is WorkerState.STARTING
    assert_right(worker, 1)


def test_not_ready_in_time_is_said_and_harms_nothing(make_worker: MakeWorker) -> None:
    worker = make_worker({"load:1": "slow:0.5"})
    with pytest.raises(NotReady, match="starting"):
        worker.run(fake.picture(1), 0.05)
    assert_right(worker, 2)
    assert (worker.faults, worker.restarts) == (0, 0)


def test_during_a_long_back_off_requests_fail_at_once(make_worker: MakeWorker) -> None:
    backoff = Backoff(base_s=20.0, uniform=lambda low, high: high)
    worker = make_worker({"2": "raise"}, backoff=backoff)
    with pytest.raises(BackendFailed):
        worker.run(fake.picture(1), 10)
    assert worker.state is WorkerState.BACKING_OFF
    started = time.monotonic()
    with pytest.raises(NotReady, match=r"backing off after: running: .*CUDA error 700"):
        worker.run(fake.picture(1), 5)
    assert time.monotonic() - started < 1


def test_queued_requests_survive_the_fault_of_the_one_before(make_worker: MakeWorker) -> None:
    worker = make_worker({"2": "hang"})
    assert worker.wait_ready(10)
    with ThreadPoolExecutor(4) as pool:
        hung = pool.submit(worker.run, fake.picture(1), 0.3)
        assert eventually(lambda: hung.running() and worker._idle is False)
        others = [pool.submit(assert_right, worker, seed) for seed in (2, 3)]
        with pytest.raises(DeadlineExceeded):
            hung.result()
        for other in others:
            other.result()


def test_waiting_behind_others_never_gets_a_healthy_engine_killed(make_worker: MakeWorker) -> None:
    worker = make_worker({str(run): "slow:0.2" for run in range(1, 5)})
    assert worker.wait_ready(10)
    pid = worker.pid
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(assert_right, worker, 1)
        assert eventually(lambda: worker._idle is False)
        with pytest.raises(NotReady, match="busy"):
            worker.run(fake.picture(2), 0.3)
        first.result()
    assert worker.pid == pid
    assert worker.faults == 0


@pytest.mark.parametrize("bad", [np.zeros((1, 3, 8, 8), np.float32), np.zeros((0, 3, 32, 32), np.float32)])
def test_an_input_that_does_not_fit_is_refused_without_harm(make_worker: MakeWorker, bad: np.ndarray) -> None:
    worker = make_worker()
    assert worker.wait_ready(10)
    with pytest.raises(ValueError, match="is due"):
        worker.run(bad, 1)
    with pytest.raises(ValueError, match="float64"):
        worker.run(fake.picture(1).astype(np.float64), 1)
    assert_right(worker, 1)
    assert worker.faults == 0


def test_stop_lets_the_backend_close_and_start_works_again(make_worker: MakeWorker, tmp_path: Path) -> None:
    worker = make_worker()
    assert_right(worker, 1)
    pid = worker.pid
    assert pid
    worker.stop()
    assert worker.state is WorkerState.STOPPED
    assert not psutil.pid_exists(pid)
    assert (tmp_path / "closed").exists()
    with pytest.raises(NotReady, match="stopped"):
        worker.run(fake.picture(1), 1)
    worker.start()
    assert_right(worker, 2)


def test_stop_ends_a_hung_process_and_its_caller(make_worker: MakeWorker) -> None:
    worker = make_worker({"2": "hang_in_library"})
    assert worker.wait_ready(10)
    caught: list[EngineError] = []

    def ask() -> None:
        try:
            worker.run(fake.picture(1), 20)
        except EngineError as error:
            caught.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    assert eventually(lambda: worker._idle is False)
    worker.stop()
    caller.join(5)
    assert isinstance(caught[0], NotReady)


def test_an_idle_worker_costs_no_processor_time(make_worker: MakeWorker) -> None:
    worker = make_worker()
    assert_right(worker, 1)
    child, thread = psutil.Process(worker.pid), worker._thread
    assert thread
    own = Path(f"/proc/self/task/{thread.native_id}/schedstat")

    def spent() -> float:
        times = child.cpu_times()
        return float(times.user + times.system) + int(own.read_text().split()[0]) / 1e9

    before = spent()
    time.sleep(0.5)
    assert spent() - before <= 0.01
