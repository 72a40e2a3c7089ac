"""A plan at work: named tensors, memory taken once and given back, and never an answer that was not computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from engines.backend import Images
from engines.tensorrt.cuda import Device
from engines.tensorrt.session import PlanRefused, RunFailed, Session
from tests.fakes import fake_pycuda, fake_tensorrt
from tests.fakes.fake_gpu import Card
from tests.fakes.fake_tensorrt import make_plan
from tests.fakes.faulty_backend import picture, right_answer

OUTPUTS = ("probabilities", "attention")


def batch_of(*seeds: int) -> Images:
    return np.concatenate([picture(seed) for seed in seeds])


def engine_of(device: Device, **what: object) -> fake_tensorrt.ICudaEngine:
    with device:
        engine = fake_tensorrt.Runtime(fake_tensorrt.Logger()).deserialize_cuda_engine(make_plan(**what))
    assert engine is not None
    return engine


def open_session(device: Device, graph_batches: int = 0, **what: object) -> Session:
    return Session(fake_tensorrt, engine_of(device, **what), device, OUTPUTS, graph_batches=graph_batches)


@pytest.fixture
def device(card: Card) -> Iterator[Device]:
    card.probed = True
    device = Device()
    yield device
    assert card.current == 0, "the context was left current"


def check(session: Session, *seeds: int) -> None:
    """The answers to these pictures are right, each in its place."""
    images = batch_of(*seeds)
    answers, right = session.run(images), right_answer(images)
    np.testing.assert_array_equal(answers["probabilities"], right.probabilities)
    np.testing.assert_array_equal(answers["attention"], right.attention)


@pytest.mark.parametrize("graph_batches", [0, 2])
@pytest.mark.requirement("R-ANS-5")
def test_batches_of_every_size_are_answered_in_any_order(device: Device, card: Card, graph_batches: int) -> None:
    session = open_session(device, graph_batches)
    for seeds in ((1,), (2, 3), (4,), (5, 6, 7), (8, 9, 10, 11), (1,), (12, 13)):
        check(session, *seeds)
    session.close()
    device.close()
    assert card.leaks == []


def test_graphs_are_recorded_once_and_replayed_instead_of_the_calls(device: Device, card: Card) -> None:
    session = open_session(device, graph_batches=2)
    assert sorted(session.graphs) == [1, 2]
    card.log.clear()
    check(session, 1)
    check(session, 2, 3)
    assert card.log.count("cuGraphLaunch") == 2
    assert not {"execute_async_v3", "set_input_shape", "memcpy_htod_async"} & set(card.log)
    card.log.clear()
    check(session, 4, 5, 6)
    assert "cuGraphLaunch" not in card.log, "a batch size without graph is queued call by call"
    assert card.log.count("execute_async_v3") == 1


def test_no_memory_is_taken_while_running(device: Device, card: Card) -> None:
    session = open_session(device, graph_batches=1)
    card.log.clear()
    for seed in range(5):
        check(session, seed)
        check(session, seed, seed + 1)
    assert not {"mem_alloc", "pagelocked_empty", "create_execution_context", "Stream"} & set(card.log)


@pytest.mark.usefixtures("no_cuda_bindings")
def test_without_cuda_bindings_it_runs_call_by_call(device: Device) -> None:
    session = open_session(device, graph_batches=4)
    assert session.graphs == {}
    check(session, 1)


@pytest.mark.parametrize(
    "refuses", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch"]
)
def test_what_cannot_be_recorded_runs_call_by_call(
    device: Device, card: Card, refuses: str, caplog: pytest.LogCaptureFixture
) -> None:
    card.codes[refuses] = 900
    session = open_session(device, graph_batches=4)
    assert session.graphs == {}
    assert f"run without a CUDA graph: {refuses}: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in caplog.text
    check(session, 1)
    check(session, 2, 3)


def test_a_graph_that_gives_other_numbers_is_not_used(
    device: Device, card: Card, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Recorded addresses or shapes that are not those of the run: the replay computes, but not this."""
    from engines.tensorrt import session as module

    class Wrong:
        def launch(self) -> None:
            card.lost_work = True

        def close(self) -> None:
            card.lost_work = False

    monkeypatch.setattr(module, "record", lambda driver, stream, work: Wrong())
    session = open_session(device, graph_batches=1)
    assert session.graphs == {}
    assert "its replay gives other numbers than its calls" in caplog.text
    check(session, 1)


@pytest.mark.fault("F12")
@pytest.mark.parametrize("graph_batches", [0, 1])
def test_kernels_that_did_nothing_never_give_the_last_patients_answer(
    device: Device, card: Card, graph_batches: int
) -> None:
    session = open_session(device, graph_batches)
    check(session, 1)
    card.lost_work = True
    answers = session.run(picture(2))
    assert np.isnan(answers["probabilities"]).all()
    assert np.isnan(answers["attention"]).all()


@pytest.mark.fault("F12")
@pytest.mark.parametrize("graph_batches", [0, 1])
def test_on_shared_memory_too(card: Card, graph_batches: int) -> None:
    card.probed = True
    session = open_session(Device(unified=True), graph_batches)
    check(session, 1)
    card.lost_work = True
    assert np.isnan(session.run(picture(2))["probabilities"]).all()


@pytest.mark.fault("F12")
def test_a_refused_run_and_a_poisoned_context_are_errors(device: Device, card: Card) -> None:
    session = open_session(device)
    check(session, 1)
    card.codes["execute"] = 1
    with pytest.raises(RunFailed, match="TensorRT refused to run a batch of 1"):
        session.run(picture(1))
    card.fail["synchronize"] = fake_pycuda.LaunchError("cuStreamSynchronize failed: an illegal memory access")
    with pytest.raises(fake_pycuda.LaunchError):
        session.run(picture(1))


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({"outputs": {"probabilities": [7]}}, "the plan's tensors are ['images', 'probabilities']"),
        ({"outputs": {"probabilities": [7], "attention": [14, -1]}}, "'attention': (14, -1)} for one image"),
        ({"dtype": "HALF"}, "'images' is DataType.HALF, where float32 is due"),
        ({"max_batch": 0}, "the plan takes images from [1, 3, 32, 32] to [0, 3, 32, 32]"),
        ({"no_context": True}, "TensorRT made no execution context, most often for want of GPU memory"),
    ],
)
def test_another_models_plan_is_refused_and_leaves_nothing_behind(
    device: Device, card: Card, what: dict[str, object], sentence: str
) -> None:
    with pytest.raises(PlanRefused) as caught:
        open_session(device, **what)
    assert sentence in str(caught.value)
    device.close()
    assert card.leaks == []


@pytest.mark.parametrize("graph", [False, True])
def test_the_network_alone_can_be_measured(device: Device, card: Card, graph: bool) -> None:
    session = open_session(device, graph_batches=1)
    check(session, 1, 2)
    with device:
        queue = session.alone(2, graph=graph)
        card.log.clear()
        queue()
        session.stream.synchronize()
    assert card.log == ["cuGraphLaunch" if graph else "execute_async_v3", "synchronize"]
    check(session, 3)
    session.close()
    device.close()
    assert card.leaks == []


def test_memory_is_given_back_where_opening_fails_midway(device: Device, card: Card) -> None:
    card.fail["pagelocked_empty"] = fake_pycuda.Error("cuMemHostAlloc failed: out of memory")
    with pytest.raises(fake_pycuda.Error):
        open_session(device, graph_batches=1)
    device.close()
    assert card.leaks == []


def test_before_tensorrt_10_each_context_has_its_own_memory(
    device: Device, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8.6 has no USER_MANAGED contexts: one graph, for the batch that is almost every run."""
    monkeypatch.delattr(fake_tensorrt, "ExecutionContextAllocationStrategy")
    monkeypatch.setattr(
        fake_tensorrt.ICudaEngine,
        "create_execution_context",
        lambda self: fake_tensorrt.IExecutionContext(self, own_memory=True),
    )
    session = open_session(device, graph_batches=4)
    assert sorted(session.graphs) == [1]
    check(session, 1)
    check(session, 2, 3)
    session.close()
    device.close()
    assert card.leaks == []
