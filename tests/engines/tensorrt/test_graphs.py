"""CUDA graphs through cuda-bindings: recorded without running, replayed, given back; every error code is looked at."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from engines.tensorrt.cuda import Device
from engines.tensorrt.graphs import GraphRefused, import_driver, record
from tests.fakes import fake_cuda_bindings
from tests.fakes.fake_gpu import Card


def test_the_bindings_are_found_where_they_are_and_where_they_were(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    assert import_driver() is fake_cuda_bindings
    for name in ("cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    assert import_driver() is None
    monkeypatch.setitem(sys.modules, "cuda.cuda", fake_cuda_bindings)
    assert import_driver() is fake_cuda_bindings, "before 12.8"


def test_recorded_work_runs_when_it_is_launched_and_not_before(card: Card) -> None:
    with Device() as device:
        stream, buffer = device.stream(), device.buffer((2, 2))

        def work() -> None:
            buffer.upload(2, stream)
            buffer.spoil_device(1, stream)
            buffer.download(2, stream)

        buffer.host[:] = 1
        graph = record(fake_cuda_bindings, stream.handle, work)
        stream.synchronize()
        assert (buffer.host == 1).all(), "recording is not running"
        for value in (5.0, 6.0):
            buffer.host[:] = value
            graph.launch()
            stream.synchronize()
            assert np.isnan(buffer.host[0]).all()
            assert (buffer.host[1] == value).all()
        graph.close()
        assert card.graphs == {}


@pytest.mark.parametrize("refuses", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_a_refusal_is_said_and_the_stream_works_on(card: Card, refuses: str) -> None:
    with Device() as device:
        stream, buffer = device.stream(), device.buffer((1, 1))
        card.codes[refuses] = 901
        with pytest.raises(GraphRefused, match=f"{refuses}: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
            record(fake_cuda_bindings, stream.handle, lambda: buffer.upload(1, stream))
        assert card.graphs == {}
        buffer.host[:] = 3
        buffer.upload(1, stream)
        stream.synchronize()
        assert card.view(buffer.address, 1).tolist() == [3]


def failing() -> None:
    raise ValueError("TensorRT refused")


@pytest.mark.parametrize("work", [failing])
def test_an_error_while_recording_ends_the_recording(card: Card, work: Callable[[], None]) -> None:
    with Device() as device:
        stream = device.stream()
        with pytest.raises(ValueError, match="TensorRT refused"):
            record(fake_cuda_bindings, stream.handle, work)
        stream.synchronize()


def test_a_launch_that_the_driver_refuses_is_an_error(card: Card) -> None:
    with Device() as device:
        stream = device.stream()
        graph = record(fake_cuda_bindings, stream.handle, lambda: None)
        card.codes["cuGraphLaunch"] = 900
        with pytest.raises(GraphRefused, match="cuGraphLaunch"):
            graph.launch()
