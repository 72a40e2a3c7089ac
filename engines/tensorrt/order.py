"""What may be ordered of the compiler, and how this TensorRT and this bundle can fill it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from typing import Final, Literal

from engines.bundle import MODEL_NAME, Bundle
from engines.tensorrt.gpu import Gpu
from engines.tensorrt.plan_key import PlanKey, device_id
from engines.tensorrt.plans import PlanError
from engines.tensorrt.versions import ORDINARY, TensorRT

FP16_NAME: Final = "model.fp16.onnx"
MAX_BATCH: Final = 64


@dataclass(frozen=True)
class CompileOrder:
    """What is to be compiled, and how; equal orders on one device give the same plan."""

    max_batch: int = 8
    """The most pictures in one run; memory is taken for as many."""
    precision: Literal["fp16", "fp32"] = "fp16"
    typing: Literal["auto", "strong", "weak"] = "auto"
    """``strong`` reads each precision from the graph, ``weak`` lets the builder choose FP16 but for LayerNormalization
    and softmax; ``auto`` takes ``strong`` where this TensorRT and the bundle have it."""
    via: Literal["onnx", "torch-tensorrt"] = "onnx"
    workspace_bytes: int | None = None
    """Working memory that the builder may use; None: all of the card's, a quarter of the memory on Tegra."""
    optimisation_level: int = 3
    """0 to 5: how long the builder searches."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch <= MAX_BATCH:
            raise ValueError(f"max_batch must be 1 to {MAX_BATCH}, not {self.max_batch}")
        if not 0 <= self.optimisation_level <= 5:
            raise ValueError(f"optimisation_level must be 0 to 5, not {self.optimisation_level}")


@dataclass(frozen=True)
class Recipe:
    """An order as this TensorRT and this bundle can fill it."""

    source: str
    strong: bool
    half: bool


def choose_recipe(bundle: Bundle, order: CompileOrder, tensorrt: TensorRT) -> Recipe:
    """Which graph is compiled, and in which kind of network.

    Raises:
        PlanError: what was ordered cannot be had with this TensorRT, or with this bundle.
    """
    if order.typing != "auto" and not (tensorrt.strong if order.typing == "strong" else tensorrt.weak):
        raise PlanError(f"{tensorrt.label} has no {order.typing}ly typed networks; leave out --typing")
    if order.via == "torch-tensorrt" and tensorrt.product != ORDINARY:
        raise PlanError(
            f"--via torch-tensorrt makes plans for TensorRT, not for {tensorrt.label}; compile with --via onnx"
        )
    if order.precision == "fp32":
        return Recipe(MODEL_NAME, strong=tensorrt.strong, half=False)
    if order.via == "torch-tensorrt":
        return Recipe(MODEL_NAME, strong=True, half=True)
    listed = FP16_NAME in bundle.manifest.files
    if tensorrt.strong and listed and order.typing != "weak":
        return Recipe(FP16_NAME, strong=True, half=True)
    if tensorrt.weak and order.typing != "strong":
        return Recipe(MODEL_NAME, strong=False, half=True)
    raise PlanError(
        f"{bundle.folder / FP16_NAME}: the bundle has none, and {tensorrt.label} takes FP16 only from a graph that has"
        " the casts in it; export the bundle again with dermascan engine export, or compile with --precision fp32"
    )


def orders_to_try(bundle: Bundle, order: CompileOrder, tensorrt: TensorRT) -> tuple[CompileOrder, ...]:
    """The order, and what to try after it where its plan gives wrong numbers on this device (F14).

    TensorRT 10.0 to 10.16 has both kinds of networks, which go different ways through the builder; 10.3 and 10.4 are
    known to miscompile Vision Transformers.
    """
    if order.typing != "auto" or order.via != "onnx" or order.precision != "fp16":
        return (order,)
    both = tensorrt.weak and choose_recipe(bundle, order, tensorrt).strong
    return (order, replace(order, typing="weak")) if both else (order,)


def plan_key(
    bundle: Bundle, order: CompileOrder, *, tensorrt: TensorRT, gpu: Gpu, device: str | None = None
) -> PlanKey:
    """The key under which the ordered plan is kept.

    Raises:
        PlanError: what was ordered cannot be had here.
    """
    recipe = choose_recipe(bundle, order, tensorrt)
    via = order.via
    if order.via == "torch-tensorrt":
        via = f"{order.via} {_version_of('torch-tensorrt')}"  # type: ignore[assignment] # a label from here on
    return PlanKey(
        model_sha256=bundle.model_sha256,
        source=recipe.source,
        source_sha256=bundle.manifest.files[recipe.source],
        product=tensorrt.product,
        version=tensorrt.version,
        gpu=gpu.name,
        compute_capability=".".join(map(str, gpu.compute_capability)),
        driver=gpu.driver,
        device=device_id() if device is None else device,
        flags={
            "max_batch": str(order.max_batch),
            "precision": order.precision,
            "typing": "strong" if recipe.strong else "weak",
            "via": via,
            "workspace_bytes": str(order.workspace_bytes or "all"),
            "optimisation_level": str(order.optimisation_level),
        },
    )


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
