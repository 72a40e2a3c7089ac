"""What TensorRT is compared with on the GPU: the same weights in FP16, run by PyTorch in each of its ways."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from types import MethodType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.tensorrt_ways import Ready, Way
from build.export import Answering
from build.vit import SelfAttention, VisionTransformer
from engines.backend import Images

_WARM = 5


def _fused(self: SelfAttention, x: Tensor) -> Tensor:
    """The blocks' attention by PyTorch's fused kernel, which is the quickest that it has."""
    q, k, v = (self._split(t) for t in functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=2))
    projected: Tensor = self.out_proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    return projected


class TorchWays:
    """PyTorch's ways, on ``device`` ("cuda"; "cpu" only to try this code out)."""

    def __init__(self, model: VisionTransformer, device: str = "cuda") -> None:
        self._device = device
        self._size = model.config.image_size
        self.reference = Answering(copy.deepcopy(model)).to(device).eval()
        half = copy.deepcopy(model)
        for module in half.modules():
            if isinstance(module, SelfAttention):
                module.forward = MethodType(_fused, module)  # type: ignore[method-assign]
        self._half = Answering(half).to(device).eval().to(self._type)

    @property
    def _type(self) -> torch.dtype:
        return torch.float16 if self._device == "cuda" else torch.float32

    def _inputs(self, batch: int) -> Tensor:
        return torch.randn(batch, 3, self._size, self._size, device=self._device, dtype=self._type)

    def _ready(self, run: Callable[[Tensor], tuple[Tensor, Tensor]], batch: int) -> Ready:
        held = self._inputs(batch)
        pinned = torch.empty(held.shape, pin_memory=self._device == "cuda")

        def engine_ms() -> float:
            if self._device == "cpu":
                started = time.perf_counter()
                run(held)
                return (time.perf_counter() - started) * 1e3
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run(held)
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end))

        def call(images: Images) -> NDArray[np.float32]:
            pinned.copy_(torch.from_numpy(images))
            probabilities, attention = run(pinned.to(self._device, non_blocking=True).to(self._type))
            attention.float().cpu()
            answer: NDArray[np.float32] = probabilities.float().cpu().numpy()
            return answer

        with torch.inference_mode():
            for _ in range(_WARM):
                engine_ms()
        return Ready(torch.inference_mode()(engine_ms), torch.inference_mode()(call))

    def eager(self, batch: int) -> Ready:
        """As it is written."""
        return self._ready(self._half, batch)

    def compiled(self, batch: int) -> Ready:
        """``torch.compile`` with all it has, CUDA graphs included."""
        torch._dynamo.reset()  # type: ignore[no-untyped-call] # noqa: SLF001 - each batch size gets its own kernels
        return self._ready(torch.compile(self._half, mode="max-autotune", dynamic=False), batch)

    def scripted(self, batch: int) -> Ready:
        """TorchScript: traced and frozen."""
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as such: it is a peer, not a way to go
            traced = torch.jit.trace(self._half, self._inputs(batch), check_trace=False)  # type: ignore[no-untyped-call]
            frozen = torch.jit.freeze(traced)
        return self._ready(frozen, batch)

    def graphed(self, batch: int) -> Ready:
        """Eager, recorded as a CUDA graph."""
        held = self._inputs(batch)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(_WARM):
                self._half(held)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            probabilities, attention = self._half(held)

        def replay(images: Tensor) -> tuple[Tensor, Tensor]:
            if images is not held:
                held.copy_(images)
            graph.replay()
            return probabilities, attention

        return self._ready(replay, batch)

    def all(self) -> dict[str, Way]:
        """Every way, by name."""
        ways: dict[str, Way] = {
            "PyTorch FP16 eager": self.eager,
            "PyTorch FP16 TorchScript": self.scripted,
            "PyTorch FP16 torch.compile (max-autotune)": self.compiled,
        }
        return ways | ({"PyTorch FP16 CUDA graph": self.graphed} if self._device == "cuda" else {})

    def right(self, images: Images) -> NDArray[np.float32]:
        """The FP32 model's probabilities."""
        torch.set_float32_matmul_precision("highest")
        with torch.inference_mode():
            answer: NDArray[np.float32] = self.reference(torch.from_numpy(images).to(self._device))[0].cpu().numpy()
        return answer


def peak_tflops(side: int = 8192, repeats: int = 20) -> float:
    """The quickest FP16 matrix product that this card does in this run, in TFLOP/s."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.float16) for _ in range(2))
    return 2 * side**3 / _quickest_s(lambda: a @ b, repeats) / 1e12


def peak_gb_s(size: int = 1 << 30, repeats: int = 20) -> float:
    """The quickest copy within the card's memory, read and written bytes, in GB/s."""
    source = torch.empty(size, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / _quickest_s(lambda: target.copy_(source), repeats) / 1e9


def _quickest_s(work: Callable[[], object], repeats: int) -> float:
    times: list[float] = []
    for _ in range(repeats + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return min(times[3:])
