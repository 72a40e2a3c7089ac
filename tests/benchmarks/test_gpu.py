"""The GPU's benchmark, as far as it can be tried without one: it says what it could not measure, and counts right."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.gpu import run as bench
from benchmarks.gpu.tensorrt_ways import Built, Ready, TensorRtWays
from engines.tensorrt.gpu import EXIT_NO_GPU, Gpu, NoGpu
from tests.fakes import pretended_gpu
from tests.fakes.fake_gpu import reset
from tests.fakes.fake_tensorrt import make_plan
from tests.fakes.faulty_backend import right_answer


def test_without_a_gpu_it_says_not_measured_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> Gpu:
        raise NoGpu("no NVIDIA driver is installed")

    monkeypatch.setattr(bench, "probe", none)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert bench.main() == EXIT_NO_GPU
    assert capsys.readouterr().out == "not measured: no NVIDIA driver is installed\n"


def test_tensorrts_ways_run_on_the_pretended_card(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in pretended_gpu.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    card = reset()
    card.probed = True
    built = Built(make_plan(max_batch=4), ("probabilities", "attention"), 1.0)
    ways = TensorRtWays(pretended_gpu.tensorrt(), pretended_gpu.GPU, built, (1, 4))
    results = bench.Results("a card")
    named = ways.all("TensorRT")
    assert list(named) == ["TensorRT, call by call", "TensorRT, graph replay"]

    def broken(batch: int) -> Ready:
        raise RuntimeError("Triton is not here")

    named["a peer"] = broken
    right = lambda images: right_answer(images).probabilities + 0.25  # noqa: E731
    bench.time_ways(named, right, (1, 4), results, size=32, rounds=2, runs=3)
    ways.close()
    assert card.leaks == []
    for way in ("TensorRT, call by call", "TensorRT, graph replay"):
        for batch in (1, 4):
            timing = results.timings[way][batch]
            assert (len(timing.engine), len(timing.call)) == (6, 6)
            assert timing.off == pytest.approx(0.25, abs=1e-6)
    text = bench.table(results, (1, 4))
    assert "| a peer |" not in text
    assert "a peer, batch 4: RuntimeError: Triton is not here" in text


def test_the_floor_is_the_larger_of_arithmetic_and_memory() -> None:
    results = bench.Results("a card", peak_tflops=100.0, peak_gb_s=1000.0)
    assert results.floor_ms(1) == pytest.approx(0.351)
    assert results.floor_ms(16) == pytest.approx(5.616)
    assert bench.Results("a card", peak_tflops=1000.0, peak_gb_s=1000.0).floor_ms(1) == pytest.approx(0.172)
    assert bench.Results("a card").floor_ms(1) is None
    results.timings["TensorRT"] = {1: bench.Timing([0.702], [1.0, 2.0], 0.001)}
    text = bench.table(results, (1, 16))
    assert "| TensorRT | 0.702 ms (1425 /s, 2.00 × floor) | not measured |" in text
    assert "| floor | 0.351 ms | 5.616 ms |" in text


def test_torchs_ways_give_the_models_probabilities(request: pytest.FixtureRequest) -> None:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two of them on a busy machine wait for each other
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    from benchmarks.gpu.torch_ways import TorchWays
    from build.random_bundle import random_model
    from build.vit import ViTConfig

    config = ViTConfig(image_size=32, patch_size=16, layers=2, heads=2, width=32, mlp_width=64, classes=7)
    ways = TorchWays(random_model(config), "cpu")
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    for way in (ways.eager, ways.scripted):
        ready = way(2)
        np.testing.assert_allclose(ready.call(images), ways.right(images), atol=1e-5)
        assert ready.engine_ms() > 0
