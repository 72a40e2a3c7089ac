"""Which TensorRT is installed here, and what it can do: told by what its bindings have, not by its version alone.

Names differ between versions: 8.6 has weakly typed networks only, 10 has both kinds, 11 strongly typed ones only
(``BuilderFlag.FP16`` and ``ILayer.precision`` are gone). TensorRT-RTX is another product with TensorRT 11's API: its
plans are for GeForce RTX cards, and here an experiment that must be asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

ORDINARY: Final = "tensorrt"
RTX: Final = "tensorrt_rtx"
OLDEST: Final = (8, 6)
_MODULES: Final = {ORDINARY: ("tensorrt",), RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_REMEDY: Final = (
    "install it with: pip install 'dermascan-edge[tensorrt]'; on Jetson, JetPack brings it for the system's own Python:"
    " make the virtual environment with --system-site-packages"
)


class NoTensorRT(Exception):
    """There is no TensorRT that this software can use. The message says why and what to do."""


@dataclass(frozen=True)
class TensorRT:
    """The imported bindings and what they can do."""

    module: Any
    product: str
    """``tensorrt``, or ``tensorrt_rtx``."""
    version: str
    release: tuple[int, ...]
    """The version's numbers."""
    strong: bool
    """Strongly typed networks: what is FP16 is said by the casts in the graph."""
    weak: bool
    """Weakly typed networks: the builder chooses FP16 where it likes, but for layers that are held in FP32."""
    explicit_batch: bool
    """The network must be asked for a batch dimension of its own; from 10 on there is nothing else."""
    old_parser: bool
    """The ONNX parser ends at opset 17 and knows no Gelu."""
    timing_cache: bool
    progress: bool
    """The builder tells how far it is."""
    targets: bool
    """The builder needs no GPU and is told which one to build for."""

    @property
    def label(self) -> str:
        """Product and version, for people."""
        return f"{'TensorRT' if self.product == ORDINARY else 'TensorRT-RTX'} {self.version}"

    @property
    def cuda_major(self) -> int | None:
        """The CUDA that PyPI's bindings of this TensorRT were made for; None where that is not told (JetPack)."""
        for major in (13, 12, 11):
            try:
                importlib.metadata.version(f"{self.product}_cu{major}_bindings")
            except importlib.metadata.PackageNotFoundError:
                continue
            return major
        return None


def _import(product: str, load: Callable[[str], ModuleType]) -> ModuleType | None:
    """The product's bindings, or None where they are not installed."""
    for name in _MODULES[product]:
        try:
            return load(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != name:
                raise NoTensorRT(
                    f"{name} is installed, but a part of it is missing ({error}); install it again"
                ) from error
        except (ImportError, OSError) as error:
            raise NoTensorRT(
                f"{name} is installed, but its libraries cannot be loaded ({error}); install the libraries of the same"
                " version, or make the folder that holds them known to the linker (ldconfig)"
            ) from error
    return None


def describe(module: Any, product: str = ORDINARY) -> TensorRT:
    """What these bindings can do.

    Raises:
        NoTensorRT: they are older than 8.6, or lack a part that compiling needs.
    """
    version = str(getattr(module, "__version__", ""))
    release = tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))
    if not release:
        raise NoTensorRT(f"{product} is installed, but has no version: it is no working TensorRT; install it again")
    if product == ORDINARY and release < OLDEST:
        raise NoTensorRT(
            f"TensorRT {version} is too old: 8.6 or newer is needed, which JetPack 6 and newer have (JetPack 5, with"
            " its Python 3.8, is not supported); update JetPack or TensorRT"
        )
    missing = [name for name in ("Builder", "OnnxParser", "Runtime") if not hasattr(module, name)]
    if missing:
        raise NoTensorRT(
            f"{product} {version} has no {' and no '.join(missing)}: it is a lean or dispatch runtime, which cannot"
            " compile; install the full TensorRT"
        )
    strong = hasattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    return TensorRT(
        module=module,
        product=product,
        version=version,
        release=release,
        strong=strong,
        weak=hasattr(module.BuilderFlag, "FP16") and hasattr(module.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS"),
        explicit_batch=product == ORDINARY and release[0] < 10,
        old_parser=product == ORDINARY and release[0] < 10,
        timing_cache=product == ORDINARY,
        progress=hasattr(module, "IProgressMonitor"),
        targets=hasattr(module, "ComputeCapability") and hasattr(module.IBuilderConfig, "set_compute_capability"),
    )


def find_tensorrt(
    *, experimental: bool = False, load: Callable[[str], ModuleType] = importlib.import_module
) -> TensorRT:
    """The TensorRT that is installed; ordinary TensorRT goes first where there are both.

    Only bindings are imported here, nothing of the GPU is touched.

    Args:
        experimental: take TensorRT-RTX where there is no ordinary TensorRT.
        load: imports a module by name.

    Raises:
        NoTensorRT: none is installed, or it cannot be used; the message says what to do.
    """
    if (module := _import(ORDINARY, load)) is not None:
        return describe(module)
    if experimental:
        if (module := _import(RTX, load)) is not None:
            return describe(module, RTX)
        raise NoTensorRT(f"neither TensorRT nor TensorRT-RTX is installed; {_REMEDY}")
    raise NoTensorRT(f"TensorRT is not installed; {_REMEDY}")
