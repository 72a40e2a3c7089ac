"""``engine compile --via torch-tensorrt``: the same plan by PyTorch's own way to TensorRT, on hosts that have it.

The network is made from the weights in the bundle's ``model.onnx``, with every precision written into it as in
``model.fp16.onnx``: torch-tensorrt 2.14 builds what it is given, and an ``enabled_precisions={torch.float16}`` that it
no longer knows would be swallowed without a word and give a plan in FP32. So each option is looked for in the
function's signature before it is used.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from build.export import ATTENTION, INPUT, PROBABILITIES, Answering
from build.from_onnx import ForeignGraph, config_of, read_weights
from build.vit import SelfAttention, VisionTransformer
from engines.tensorrt.plans import PlanError

_ENTRY: Final = "convert_exported_program_to_serialized_trt_engine"
_INSTALL: Final = "install it with: pip install torch-tensorrt, or compile with --via onnx"


class _SingleNorm(nn.Module):
    """LayerNorm in FP32 within an FP16 network."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = self.norm(x.float())
        return normal.to(x.dtype)


class _SingleSoftmax(SelfAttention):
    """Self-attention whose softmax is FP32; its matrix products are in the precision of the weights."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            self._split(t) for t in nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=2)
        )
        scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)
        out = scores.float().softmax(dim=3).to(v.dtype) @ v
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected


class _SingleHead(nn.Module):
    """The head in FP32: a few thousand multiplications, after which nothing is rounded to FP16."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head.float()

    def forward(self, feature: Tensor) -> Tensor:
        logits: Tensor = self.head(feature.float())
        return logits


class HalfAnswering(nn.Module):
    """:class:`Answering` in FP16, with LayerNorm, softmax, head, input and outputs in FP32."""

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        model = model.half()
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.LayerNorm):
                    setattr(parent, name, _SingleNorm(child))
                elif isinstance(child, SelfAttention):
                    attention = _SingleSoftmax(model.config).half()
                    attention.load_state_dict(child.state_dict())
                    setattr(parent, name, attention)
        model.heads = _SingleHead(model.heads)  # type: ignore[assignment] # called alike
        self.answering = Answering(model)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised RGB ``[N, 3, S, S]`` float32 to probabilities and attention, float32."""
        answer: tuple[Tensor, Tensor] = self.answering(images.half())
        return answer


def load_network(graph: bytes, *, half: bool) -> tuple[nn.Module, int]:
    """The network of a bundle's ``model.onnx``, with probabilities and attention as outputs; and its image size.

    Raises:
        ForeignGraph: the graph was not written by this project's exporter.
    """
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(graph)
        file.flush()
        weights = read_weights(Path(file.name))
    config = config_of(weights)
    model = VisionTransformer(config)
    model.load_state_dict(weights)
    return (HalfAnswering(model) if half else Answering(model)).eval(), config.image_size


def export_program(network: nn.Module, size: int, *, max_batch: int, device: torch.device) -> ExportedProgram:
    """The network as a program for batches of 1 to ``max_batch``."""
    shapes = None if max_batch == 1 else ({0: torch.export.Dim("batch", min=1, max=max_batch)},)
    example = torch.zeros(min(max_batch, 2), 3, size, size, device=device)
    with torch.no_grad():
        return torch.export.export(network.to(device), (example,), dynamic_shapes=shapes)


def _device() -> torch.device:
    if not torch.cuda.is_available():
        raise PlanError("torch sees no GPU, and torch-tensorrt compiles on one; install a torch for CUDA")
    return torch.device("cuda")


def _checked(function: Callable[..., bytes], options: dict[str, Any], version: str) -> dict[str, Any]:
    """The options, all of which the function knows by name; explicit typing is asked for where it is a choice."""
    known = inspect.signature(function).parameters
    if "use_explicit_typing" in known:
        options["use_explicit_typing"] = True
    if missing := sorted(set(options) - set(known)):
        raise PlanError(
            f"torch-tensorrt {version} does not know {', '.join(missing)}, without which the plan would not be the one"
            " that is due; install 2.14 or newer, or compile with --via onnx"
        )
    return options


def make_plan(
    path: Path,
    graph: bytes,
    *,
    half: bool,
    max_batch: int,
    workspace_bytes: int,
    optimisation_level: int,
    timing_cache: Path,
) -> bytes:
    """A serialised TensorRT plan, by the contract of those made from ONNX: same tensors, same precisions.

    Args:
        path: the graph's file, for messages.
        graph: its bytes, checked.
        half: FP16, with FP32 where it is due.
        max_batch: most pictures in one run.
        workspace_bytes: memory that the builder may use; 0: all.
        optimisation_level: 0 to 5.
        timing_cache: torch-tensorrt's own.

    Raises:
        PlanError: torch-tensorrt is missing, too old, or cannot build it.
    """
    try:
        import torch_tensorrt
    except (ImportError, OSError) as error:
        raise PlanError(f"torch-tensorrt is not installed, or cannot be loaded ({error}); {_INSTALL}") from error
    version = str(getattr(torch_tensorrt, "__version__", "of unknown version"))
    function = getattr(torch_tensorrt.dynamo, _ENTRY, None)
    if function is None:
        raise PlanError(f"torch-tensorrt {version} has no {_ENTRY}; {_INSTALL}")
    device = _device()
    try:
        network, size = load_network(graph, half=half)
    except ForeignGraph as error:
        raise PlanError(f"{path}: not a graph that torch-tensorrt can be given: {error}") from error
    program = export_program(network, size, max_batch=max_batch, device=device)
    shapes = {f"{which}_shape": (batch, 3, size, size) for which, batch in (("min", 1), ("opt", 1), ("max", max_batch))}
    options: dict[str, Any] = {
        "arg_inputs": [torch_tensorrt.Input(**shapes, dtype=torch.float32)],
        "arg_input_binding_names": (INPUT,),
        "output_binding_names": (PROBABILITIES, ATTENTION),
        "require_full_compilation": True,
        "disable_tf32": True,
        "version_compatible": False,  # such plans hold host code (F15)
        "workspace_size": workspace_bytes,
        "optimization_level": optimisation_level,
        "timing_cache_path": str(timing_cache),
        "cache_built_engines": False,
        "reuse_cached_engines": False,
    }
    timing_cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        plan = function(program, **_checked(function, options, version))
    except Exception as error:  # its own classes share no base
        raise PlanError(f"{path}: torch-tensorrt {version} failed: {' '.join(str(error).split())[:600]}") from error
    if not plan:
        raise PlanError(f"{path}: torch-tensorrt {version} built no plan")
    return bytes(plan)
