"""The rung: what keeps it from answering is said, the CPU answers meanwhile, and whatever mends itself is noticed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from engines.backend import BackendSpec, NotReady
from engines.backoff import Backoff
from engines.bundle import Bundle, golden_input, load_bundle
from engines.golden import golden_check
from engines.ladder import Ladder, Rung, open_ladder
from engines.proven import WorkerSettings
from engines.supervisor import Worker
from engines.tensorrt.preparation import Failed, Order, Preparation, Prepared
from engines.tensorrt.rung import RungSettings, TensorRtRung
from tests.fakes import faulty_backend

REPOSITORY = Path(__file__).parents[3]
PRETENDED = REPOSITORY / "tests" / "fakes" / "pretended_gpu.py"
SOON = RungSettings(
    look_s=0.05, soon=lambda: Backoff(base_s=0.02, cap_s=0.05), late=lambda: Backoff(base_s=0.02, cap_s=0.05)
)


def until(what: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for a condition that has no event of its own."""
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@dataclass
class Script:
    """Preparations that do as told, one after another; the last outcome repeats."""

    outcomes: list[Prepared | Failed]
    orders: list[Order] = field(default_factory=list)
    progress: tuple[str, float | None] | None = None
    go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go.set()

    def __call__(self, order: Order) -> Script:
        self.orders.append(order)
        return self

    def wait(self, timeout_s: float, progress: Callable[[str, float | None], None]) -> Prepared | Failed:
        if self.progress is not None:
            progress(*self.progress)
        assert self.go.wait(20)
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    def kill(self) -> None:
        self.go.set()


NO_GPU = Failed("no NVIDIA driver is installed; install it", soon=True)


@dataclass
class Bench:
    """A rung over the fabricated model of faulty_backend, below it a CPU worker of the same."""

    folder: Path
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def prepared(self) -> Prepared:
        options = faulty_backend.spec(self.folder, self.faults).options
        return Prepared(dict(options), "fabricated")

    def rung(self, script: Script) -> TensorRtRung:
        settings = RungSettings(
            factory=f"{Path(faulty_backend.__file__).resolve()}:open_backend",
            prepare=script,  # type: ignore[arg-type]
            look_s=SOON.look_s,
            soon=SOON.soon,
            late=SOON.late,
        )
        order = Order(self.folder, "", self.folder)
        worker = WorkerSettings(start_timeout_s=20.0, golden_timeout_s=5.0)
        return TensorRtRung(order, faulty_backend.golden(), settings=worker, rung=settings)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_prepared_plan_is_run_by_a_worker(bench: Bench) -> None:
    rung = bench.rung(Script([bench.prepared]))
    assert (rung.ready, rung.last_failure) == (False, "not started")
    rung.start()
    try:
        assert rung.wait_ready(20)
        until(lambda: rung.last_failure is None)
        golden = faulty_backend.golden()
        golden.check(rung.run(golden.images, 5.0))
        assert rung.typical_run_s is not None
        assert rung.faults == 0
    finally:
        rung.stop()
    assert not rung.ready
    with pytest.raises(NotReady, match="stopped"):
        rung.run(golden.images, 1.0)


@pytest.mark.fault("F13")
def test_why_there_is_no_gpu_is_told_and_logged_sparingly(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    rung = bench.rung(script := Script([NO_GPU]))
    rung.start()
    try:
        until(lambda: len(script.orders) > 20)
        assert rung.last_failure == NO_GPU.why
        assert not rung.ready
        tries = rung.preparations
    finally:
        rung.stop()
    said = [record for record in caplog.records if NO_GPU.why in record.message]
    assert 2 <= len(said) <= tries.bit_length() + 1, "the 1st, 2nd, 4th, 8th try (F28)"


def test_whoever_asks_a_lone_rung_waits_for_the_plan_but_not_in_vain(bench: Bench) -> None:
    script = Script([NO_GPU])
    slow = RungSettings(prepare=script, soon=lambda: Backoff(base_s=60.0, uniform=lambda low, high: high))  # type: ignore[arg-type]
    rung = TensorRtRung(Order(bench.folder, "", bench.folder), faulty_backend.golden(), rung=slow)
    rung.start()
    try:
        started = time.monotonic()
        with pytest.raises(NotReady, match="no NVIDIA driver is installed"):
            rung.run(faulty_backend.picture(0), 15.0)
        assert time.monotonic() - started < 10
    finally:
        rung.stop()

    rung = bench.rung(script := Script([bench.prepared]))
    script.go.clear()
    rung.start()
    try:
        threading.Timer(0.2, script.go.set).start()
        faulty_backend.golden().check(rung.run(faulty_backend.golden().images, 20.0))
    finally:
        rung.stop()


def test_a_gpu_that_comes_back_is_noticed(bench: Bench) -> None:
    rung = bench.rung(Script([NO_GPU, NO_GPU, bench.prepared]))
    rung.start()
    try:
        assert rung.wait_ready(20)
        assert rung.preparations == 3
    finally:
        rung.stop()


def test_progress_is_told_to_those_who_are_passed_over(bench: Bench) -> None:
    script = Script([bench.prepared], progress=("building: tactics", 0.414))
    script.go.clear()
    rung = bench.rung(script)
    ladder = Ladder([Rung("tensorrt", rung), Rung("cpu", cpu := Worker(cpu_spec(bench), faulty_backend.golden()))])
    ladder.start()
    try:
        assert cpu.wait_ready(20)
        until(lambda: rung.last_failure == "building: tactics (41%)")
        result = ladder.run(faulty_backend.golden().images, 3.0)
        assert (result.backend, result.passed_over) == ("cpu", (("tensorrt", "not ready: building: tactics (41%)"),))
        script.go.set()
        assert rung.wait_ready(20)
        assert ladder.run(faulty_backend.golden().images, 3.0).backend == "tensorrt"
    finally:
        ladder.stop()


def cpu_spec(bench: Bench) -> BackendSpec:
    folder = bench.folder / "cpu"
    folder.mkdir()
    return faulty_backend.spec(folder)


@pytest.mark.fault("F14")
def test_a_plan_that_keeps_failing_is_doubted_and_proved_again(bench: Bench) -> None:
    """Wrong golden images: three fresh processes in a row; then the child is asked to prove the plan again."""
    bench.faults = {str(number): "wrong" for number in (1, 2, 3)}
    rung = bench.rung(script := Script([bench.prepared]))
    rung.start()
    try:
        until(lambda: len(script.orders) == 2)
        assert [order.doubted for order in script.orders] == [False, True]
        assert rung.wait_ready(20), "and what was proved again is run again"
        assert rung.faults == 3
    finally:
        rung.stop()


@pytest.mark.fault("F14")
def test_a_plan_that_was_proved_wrong_is_compiled_anew(bench: Bench) -> None:
    wrong = Failed("the plan is wrong on this device", soon=True, anew=True)
    rung = bench.rung(script := Script([wrong, bench.prepared]))
    rung.start()
    try:
        assert rung.wait_ready(20)
        assert [order.anew for order in script.orders] == [False, True]
    finally:
        rung.stop()


@pytest.mark.fault("F12")
def test_a_picture_that_brings_the_engine_down_now_and_then_does_not_doubt_the_plan(bench: Bench) -> None:
    bench.faults = {str(number): "raise" for number in (3, 6, 9, 12, 15)}
    rung = bench.rung(script := Script([bench.prepared]))
    rung.start()
    try:
        for _ in range(5):
            assert rung.wait_ready(20)
            until(lambda: rung.last_failure is None or rung.ready)
            for _ in range(2):
                try:
                    rung.run(faulty_backend.picture(1), 5.0)
                except Exception:  # noqa: BLE001 - the fault itself is not what is tested
                    break
        assert len(script.orders) == 1
    finally:
        rung.stop()


def test_stopping_does_not_wait_for_a_child_or_a_back_off(bench: Bench) -> None:
    script = Script([NO_GPU])
    script.go.clear()
    rung = bench.rung(script)
    rung.start()
    until(lambda: script.orders)
    started = time.monotonic()
    rung.stop()
    assert time.monotonic() - started < 5


# The child process itself.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache, and a pretended card for child processes that compiles as ``plan.json`` says."""
    monkeypatch.setenv("PRETENDED_NO_GPU", str(tmp_path / "no-gpu"))
    monkeypatch.setenv("PRETENDED_PLAN", str(tmp_path / "plan.json"))
    (tmp_path / "plan.json").write_text("{}")
    return tmp_path / "cache"


@pytest.fixture
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle, check_hashes=False)


def child(order: Order) -> Preparation:
    return Preparation(order, (sys.executable, str(PRETENDED)))


def order_for(bundle: Bundle, cache: Path, **more: bool) -> Order:
    return Order(bundle.folder, bundle.manifest_sha256, cache, max_batch=2, **more)


def get_ready(order: Order) -> tuple[Prepared | Failed, list[str]]:
    doing: list[str] = []
    outcome = child(order).wait(25.0, lambda what, share: doing.append(what))
    return outcome, doing


def test_the_child_compiles_and_verifies_once_and_finds_it_the_next_time(bundle: Bundle, cache: Path) -> None:
    outcome, doing = get_ready(order_for(bundle, cache))
    assert isinstance(outcome, Prepared), outcome
    assert outcome.what == "demo/1.0.0 compiled by TensorRT 10.13.3.9 for Pretended T4"
    assert doing == [
        "compiling the model for this GPU",
        "building: pretending",
        "verifying the compiled model against the reference",
    ]
    again, doing = get_ready(order_for(bundle, cache))
    assert again == outcome
    assert doing == []
    _, doing = get_ready(order_for(bundle, cache, doubted=True))
    assert doing == ["verifying the compiled model against the reference"]


def test_a_relative_cache_means_the_same_to_the_child(bundle: Bundle) -> None:
    order = Order.from_json(Order(bundle.folder, "0", Path("state/cache")).to_json())
    assert order.cache == Path.cwd() / "state" / "cache"


@pytest.mark.fault("F06")
def test_old_plans_do_not_fill_the_disk(bundle: Bundle, cache: Path) -> None:
    plans = cache / "plans"
    for age in range(5):
        folder = plans / f"{age:032x}"
        folder.mkdir(parents=True)
        (folder / "plan.engine").write_bytes(b"old")
        os.utime(folder, (1e9 - age, 1e9 - age))
    outcome, _ = get_ready(order_for(bundle, cache))
    assert isinstance(outcome, Prepared)
    old = sorted(folder.name for folder in plans.iterdir() if folder.name.startswith("0000"))
    assert old == [f"{age:032x}" for age in range(2)], "the newest two, for a rollback"
    assert get_ready(order_for(bundle, cache))[0] == outcome, "and the one in use"


@pytest.mark.fault("F14")
def test_a_tensorrt_that_miscompiles_is_caught_at_first_load(bundle: Bundle, cache: Path) -> None:
    plan = cache.parent / "plan.json"
    plan.write_text('{"shift": 0.05}')
    outcome, _ = get_ready(order_for(bundle, cache))
    assert isinstance(outcome, Failed)
    assert outcome.why.startswith("TensorRT 10.13.3.9's engine of this model for Pretended T4 fails its verification: ")
    assert (outcome.soon, outcome.anew) == (False, True)
    outcome, _ = get_ready(order_for(bundle, cache))
    assert isinstance(outcome, Failed), "still not, although the plan is in the cache now"
    assert outcome.why.endswith("it is compiled anew")
    assert (outcome.soon, outcome.anew) == (True, True)
    plan.write_text("{}")  # TensorRT was mended
    outcome, _ = get_ready(order_for(bundle, cache, anew=True))
    assert isinstance(outcome, Prepared)


@pytest.mark.fault("F15")
def test_a_tampered_plan_is_compiled_anew_and_that_is_said(bundle: Bundle, cache: Path) -> None:
    get_ready(order_for(bundle, cache))
    (plan,) = cache.glob("plans/*/plan.engine")
    plan.write_bytes(plan.read_bytes()[:-3])
    outcome, doing = get_ready(order_for(bundle, cache))
    assert isinstance(outcome, Prepared)
    assert "compiling the model for this GPU" in doing
    assert len(outcome.notes) == 1
    assert "it was compiled anew" in outcome.notes[0]


@pytest.mark.fault("F13")
def test_the_child_says_what_is_missing(bundle: Bundle, cache: Path) -> None:
    (cache.parent / "no-gpu").touch()
    outcome, _ = get_ready(order_for(bundle, cache))
    assert outcome == Failed("the GPU cannot be used: the driver sees no GPU (pretended)", soon=True)
    (cache.parent / "no-gpu").unlink()
    (cache.parent / "plan.json").write_text('{"error": "model.onnx: TensorRT has no kernel; update TensorRT"}')
    outcome, _ = get_ready(order_for(bundle, cache))
    assert outcome == Failed("model.onnx: TensorRT has no kernel; update TensorRT", soon=False)


@pytest.mark.fault("F13")
def test_looking_for_a_gpu_again_and_again_costs_little(bundle: Bundle, cache: Path) -> None:
    """On a device without one, nothing but the standard library is loaded to find that out."""
    code = (
        "import sys; from engines.tensorrt import gpu, prepare; from engines.tensorrt.preparation import Order\n"
        "def none(**_): raise gpu.NoGpu('none')\n"
        "gpu.probe = none\n"
        f"told = prepare.outcome(Order.from_json({order_for(bundle, cache).to_json()!r}), print)\n"
        "print(told['failed'], [name for name in ('numpy', 'pydantic', 'cv2', 'tensorrt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "none []\n"


@pytest.mark.fault("F15")
def test_a_bundle_that_was_exchanged_since_it_was_verified_is_not_compiled(bundle: Bundle, cache: Path) -> None:
    outcome, doing = get_ready(Order(bundle.folder, "0" * 64, cache))
    assert isinstance(outcome, Failed)
    assert "the bundle was exchanged since the agent checked it; restart the agent" in outcome.why
    assert doing == []


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGSEGV, "killed by signal 11"), (signal.SIGKILL, "for want of memory")]
)
def test_a_compiler_that_crashes_ends_only_its_child(
    bundle: Bundle, cache: Path, number: signal.Signals, words: str
) -> None:
    (cache.parent / "plan.json").write_text(json.dumps({"die": int(number)}))
    outcome, _ = get_ready(order_for(bundle, cache))
    assert isinstance(outcome, Failed)
    assert words in outcome.why
    assert not outcome.soon


def test_a_child_that_takes_too_long_is_ended(bundle: Bundle, cache: Path) -> None:
    (cache.parent / "plan.json").write_text('{"hang": true}')
    outcome = child(order_for(bundle, cache)).wait(1.5, lambda *_: None)
    assert outcome == Failed("no compiled model was ready within 2 s", soon=False)


def test_a_child_that_cannot_be_started_or_talks_nonsense_is_an_outcome(bundle: Bundle, cache: Path) -> None:
    outcome = Preparation(order_for(bundle, cache), ("/no/such/python",)).wait(1.0, lambda *_: None)
    assert outcome == Failed(
        "the process that compiles the model could not be started (No such file or directory)", soon=False
    )
    outcome = Preparation(order_for(bundle, cache), ("/bin/echo", "hello")).wait(5.0, lambda *_: None)
    assert isinstance(outcome, Failed)
    assert "said 'hello" in outcome.why


def test_the_child_ends_with_the_agent(bundle: Bundle, cache: Path) -> None:
    """Its standard input is its lifeline, whatever it is at."""
    (cache.parent / "plan.json").write_text('{"hang": true}')
    process = child(order_for(bundle, cache))._process
    assert process is not None
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        assert "compiling" in process.stdout.readline()
        process.stdin.close()
        assert process.wait(20) == 1


@pytest.mark.fault("F13")
@pytest.mark.skipif(os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/nvmap"), reason="there is a GPU here")  # noqa: PTH110
def test_on_a_machine_without_gpu_the_cpu_answers_and_the_answer_says_why(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is pretended here: the ladder of the settings, on this very machine."""
    caplog.set_level(logging.WARNING)
    ladder = open_ladder(["tensorrt", "cpu"], bundle, threads=1, cache=tmp_path)
    ladder.start()
    try:
        assert ladder.wait_ready(20)
        upper = ladder.rungs[0].runner
        until(lambda: "NVIDIA driver" in (upper.last_failure or ""))
        result = ladder.run(golden_input(bundle), 5.0)
        golden_check(bundle).check(result.output)
        assert result.backend == "cpu"
        ((rung, why),) = result.passed_over
        assert rung == "tensorrt"
        assert why.startswith("not ready: no NVIDIA driver is installed (libcuda.so.1 was not found); install it")
        assert "no NVIDIA driver is installed" in caplog.text
    finally:
        ladder.stop()


@pytest.fixture
def whole(bundle: Bundle, cache: Path) -> Iterator[Ladder]:
    """The rung with its real child and its real worker on the pretended card, above the real CPU rung."""
    settings = RungSettings(
        factory=f"{PRETENDED}:open_backend", prepare=child, look_s=0.05, soon=SOON.soon, late=SOON.late
    )
    rung = TensorRtRung(order_for(bundle, cache), golden_check(bundle), rung=settings)
    spec = BackendSpec("cpu", "engines.onnx_cpu:open_backend", bundle.folder, {"threads": 1})
    ladder = Ladder([Rung("tensorrt", rung), Rung("cpu", Worker(spec, golden_check(bundle)))])
    ladder.start()
    yield ladder
    ladder.stop()


@pytest.mark.fault("F13")
@pytest.mark.timeout(60)
def test_from_no_gpu_to_an_answer_of_the_gpu(whole: Ladder, bundle: Bundle, cache: Path) -> None:
    """No GPU: the CPU answers. It comes: compiled, verified, golden image, and it answers. It goes: the CPU again."""
    (cache.parent / "no-gpu").touch()
    answer = partial(whole.run, golden_input(bundle), 5.0)
    rung = whole.rungs[0].runner
    assert whole.rungs[1].runner.wait_ready(20)
    assert isinstance(rung, TensorRtRung)
    assert answer().backend == "cpu"
    (cache.parent / "no-gpu").unlink()
    assert rung.wait_ready(25)
    result = answer()
    assert (result.backend, result.passed_over) == ("tensorrt", ())
    golden_check(bundle).check(result.output)

    (cache.parent / "no-gpu").touch()
    assert rung.worker is not None
    assert rung.worker.pid is not None
    os.kill(rung.worker.pid, signal.SIGKILL)
    until(lambda: "the driver sees no GPU" in (rung.last_failure or ""))
    result = answer()
    assert result.backend == "cpu"
    assert "the driver sees no GPU" in result.passed_over[0][1]
    (cache.parent / "no-gpu").unlink()
    assert rung.wait_ready(20)
