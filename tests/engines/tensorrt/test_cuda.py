"""pycuda's part: the primary context, pushed and popped, one thread, memory given back; Tegra's memory is one."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from engines.tensorrt.cuda import Device
from engines.tensorrt.gpu import NoGpu
from tests.fakes import fake_pycuda
from tests.fakes.fake_gpu import Card, CardError


def test_rows_travel_to_the_gpu_and_back(card: Card) -> None:
    device = Device()
    with device:
        stream, there, back = device.stream(), device.buffer((4, 3)), device.buffer((4, 3))
        there.host[:2] = [[1, 2, 3], [4, 5, 6]]
        there.upload(2, stream)
        stream._stream.add(lambda: np.copyto(card.view(back.address, 6), card.view(there.address, 6)))
        back.host.fill(-1)
        back.download(2, stream)
        assert (back.host == -1).all(), "nothing has come before it is waited for"
        stream.synchronize()
        assert back.host.tolist() == [[1, 2, 3], [4, 5, 6], [-1, -1, -1], [-1, -1, -1]]
        there.free()
        back.free()
    device.close()
    assert card.leaks == []


def test_the_context_is_current_only_inside_and_with_blocks_nest(card: Card) -> None:
    device = Device()
    assert (card.retained, card.current) == (1, 0)
    with device:
        with device:
            assert card.current == 1
        assert card.current == 1
    assert card.current == 0
    with pytest.raises(CardError, match="no context is current"):
        device.buffer((1,))


def test_the_context_is_left_after_an_error(card: Card) -> None:
    device = Device()
    card.fail["mem_alloc"] = fake_pycuda.Error("cuMemAlloc failed: out of memory")
    with pytest.raises(fake_pycuda.Error, match="out of memory"), device:
        device.memory(100)
    assert card.current == 0


def test_another_thread_is_refused(card: Card) -> None:
    device, caught = Device(), []

    def enter() -> None:
        try:
            with device:
                pass
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert caught == ["a GPU's context is used on the thread that made it"]
    assert card.current == 0


def test_spoiled_memory_shows_what_was_not_written(card: Card) -> None:
    device = Device()
    with device:
        stream, buffer = device.stream(), device.buffer((2, 2))
        buffer.host[:] = 1
        buffer.upload(2, stream)
        buffer.spoil_device(1, stream)
        buffer.download(2, stream)
        stream.synchronize()
        assert np.isnan(buffer.host[0]).all()
        assert buffer.host[1].tolist() == [1, 1]


def test_where_memory_is_shared_nothing_is_copied(card: Card) -> None:
    device = Device(unified=True)
    with device:
        stream, buffer = device.stream(), device.buffer((2, 2))
        buffer.host[:] = 7
        buffer.upload(2, stream)
        stream.synchronize()
        assert card.view(buffer.address, 4).tolist() == [7, 7, 7, 7], "the GPU sees the very bytes"
        card.view(buffer.address, 4)[:] = 8
        buffer.download(2, stream)
        assert (buffer.host == 8).all()
        buffer.free()
    device.close()
    assert not {"memcpy_htod_async", "memcpy_dtoh_async", "mem_alloc"} & set(card.log)
    assert card.leaks == []


def test_a_device_that_another_program_holds_is_said(card: Card) -> None:
    card.fail["retain_primary_context"] = fake_pycuda.Error("cuDevicePrimaryCtxRetain failed: device busy")
    with pytest.raises(NoGpu, match="cannot be used: cuDevicePrimaryCtxRetain failed: device busy; look for other"):
        Device()


def test_pycuda_is_asked_for_in_words(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    with pytest.raises(NoGpu, match=r"install dermascan-edge\[tensorrt\]"):
        Device()
