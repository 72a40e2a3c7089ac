"""The ways of optimising a network for deployment that ``benchmarks.build`` measures, each from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from build.bundle_writer import BundleText, write_bundle
from build.export import Answering, export_onnx
from build.fp16 import export_fp16
from build.random_bundle import synthetic_lesion
from build.vit import VisionTransformer
from engines.backend import Images, Output
from engines.bundle import load_bundle
from engines.commands.choices import EngineMissing, choose
from engines.manifest import OperatingPoint
from engines.onnx_cpu import OnnxCpu, cores, session_options
from engines.tensorrt.gpu import probe
from engines.worker import find_factory

BATCH = 8
Work = Callable[[Images], Output]


@dataclass(frozen=True)
class Way:
    """``prepare`` does what is done once (compile, trace, export, load) and gives what answers pictures."""

    name: str
    prepare: Callable[[], Work]


def _torch_work(module: Callable[[Tensor], tuple[Tensor, Tensor]], dtype: torch.dtype = torch.float32) -> Work:
    def work(images: Images) -> Output:
        with torch.inference_mode():
            probabilities, attention = module(torch.from_numpy(images).to(dtype))
        return Output(probabilities.float().numpy(), attention.float().numpy())

    return work


def _compiled(module: nn.Module) -> Work:
    return _torch_work(torch.compile(module, dynamic=False))  # a graph for each of the two batch sizes


def _traced(module: nn.Module, size: int) -> Work:
    with torch.inference_mode():
        trace = torch.jit.trace(module, torch.zeros(2, 3, size, size))  # type: ignore[no-untyped-call]
        return _torch_work(torch.jit.optimize_for_inference(torch.jit.freeze(trace)))


def _half(model: VisionTransformer, dtype: torch.dtype) -> Work:
    copy = VisionTransformer(model.config)
    copy.load_state_dict(model.state_dict())
    return _torch_work(Answering(copy).eval().to(dtype), dtype)


def _onnx(graph: Path) -> Work:
    session = onnxruntime.InferenceSession(
        str(graph), session_options(0, spinning=False), providers=["CPUExecutionProvider"]
    )
    return OnnxCpu(session).run


def _tensorrt(graphs: Callable[[], tuple[Path, Path]], folder: Path, cache: Path | None) -> Work:
    """The agent's own way: a bundle, a plan that the agent's child compiles and proves, the agent's backend."""
    probe()  # says in a sentence what is missing, before anything is exported
    single, half = graphs()
    text = BundleText(
        "benchmark", "0.0.0", "vit", {}, "Apache-2.0", "For measuring speed only.", "# For measuring only\n"
    )
    point = OperatingPoint(threshold=0.5, chosen_on="nothing")
    write_bundle(folder / "bundle", single, synthetic_lesion(), text, point, fp16_onnx=half)
    chosen = choose("tensorrt", load_bundle(folder / "bundle"), cache=cache or folder)
    if chosen.failure is not None:
        raise EngineMissing(chosen.failure)
    return find_factory(chosen.spec.factory)(folder / "bundle", **chosen.spec.options).run


def ways(model: VisionTransformer, folder: Path, cache: Path | None) -> list[Way]:
    """All ways for a model; the first is the one that the others are compared with.

    Args:
        model: the network, in evaluation mode.
        folder: for exported files.
        cache: where TensorRT's plans lie; None takes ``folder``.
    """
    torch.set_num_threads(cores())
    module = Answering(model).eval()
    single, half = folder / "model.onnx", folder / "model.fp16.onnx"

    def exported() -> Path:
        if not single.exists():
            export_onnx(model, single, fp16_weights=False)
        return single

    def exported_half() -> Path:
        return half if half.exists() else export_fp16(exported(), half)

    return [
        Way("PyTorch eager, FP32", lambda: _torch_work(module)),
        Way("torch.compile (Inductor), FP32", lambda: _compiled(module)),
        Way("TorchScript trace, frozen, FP32", lambda: _traced(module, model.config.image_size)),
        Way("PyTorch eager, FP16 (`.half()`)", lambda: _half(model, torch.float16)),
        Way("PyTorch eager, BF16", lambda: _half(model, torch.bfloat16)),
        Way("ONNX Runtime, FP32", lambda: _onnx(exported())),
        Way("ONNX Runtime, FP16 graph (here computed in FP32)", lambda: _onnx(exported_half())),
        Way("TensorRT, FP16", lambda: _tensorrt(lambda: (exported(), exported_half()), folder, cache)),
    ]
