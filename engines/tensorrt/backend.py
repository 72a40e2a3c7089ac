"""The TensorRT backend: a plan of this device's cache, at work on the GPU. Imported by the worker process only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from engines.backend import Images, Output
from engines.bundle import MODEL_NAME, Bundle
from engines.manifest import MANIFEST_NAME, parse_manifest, read_manifest_text
from engines.tensorrt import gpu as cuda_gpu
from engines.tensorrt.cuda import Device
from engines.tensorrt.gpu import Gpu
from engines.tensorrt.listening import Heard, make_logger
from engines.tensorrt.plan_key import PlanKey, device_id
from engines.tensorrt.plans import Plan, find_plan
from engines.tensorrt.session import PlanRefused, Session
from engines.tensorrt.versions import TensorRT, find_tensorrt

OUTPUTS: Final = ("probabilities", "attention")
NOTE_NAME: Final = "first-load.json"
"""Beside the plan: what its first-load verification found on this device."""
GRAPH_BATCHES: Final = 8
"""Batches of up to so many pictures get a recorded graph."""
_COMPILE: Final = "the agent compiles it by itself; or run: dermascan engine compile"


class TensorRtBackend:
    """One engine. Batches larger than the plan's are run in slices."""

    def __init__(self, tensorrt: TensorRT, plan: bytes, device: Device, *, graph_batches: int = GRAPH_BATCHES) -> None:
        """Load a plan's bytes.

        Raises:
            PlanRefused: TensorRT does not take it, or it is not one of our models.
        """
        trt = tensorrt.module
        heard = Heard()
        self._logger = make_logger(trt, heard)  # TensorRT keeps a pointer to it
        with device:
            self._runtime = trt.Runtime(self._logger)
            self._runtime.engine_host_code_allowed = False  # a plan may bring code for the GPU, none for the CPU (F15)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise PlanRefused(f"{tensorrt.label} does not take the plan: {heard.why()}")
        self._device = device
        self.session = Session(trt, self._engine, device, OUTPUTS, graph_batches=graph_batches)

    @property
    def max_batch(self) -> int:
        """The most pictures of one run on the GPU."""
        return self.session.layout.max_batch

    def run(self, images: Images) -> Output:
        """Run the model: ``[N, 3, S, S]`` float32 in, probabilities and attention out."""
        parts = [self.session.run(images[i : i + self.max_batch]) for i in range(0, len(images), self.max_batch)]
        return Output(*(np.concatenate([part[name] for part in parts]) for name in OUTPUTS))

    def close(self) -> None:
        """Give the GPU's memory and context back."""
        self.session.close()
        self._engine = self._runtime = None
        self._device.close()


def open_gpu() -> tuple[Gpu, TensorRT]:
    """The GPU and the TensorRT of this device, asked for in the one order that cannot crash (F13).

    Raises:
        NoGpu: no GPU, no driver, or one too old for this TensorRT.
        NoTensorRT: none that can be used.
    """
    cuda_gpu.probe()
    tensorrt = find_tensorrt()
    return cuda_gpu.probe(needs_cuda=tensorrt.cuda_major), tensorrt


def open_plan(plan: Plan, tensorrt: TensorRT, gpu: Gpu, *, graphs: bool = True) -> TensorRtBackend:
    """Open a plan that may be unproved yet; for the one who proves it.

    Raises:
        PlanError: its bytes are not those that were written.
        PlanRefused: TensorRT does not take it.
        NoGpu: the GPU cannot be had.
    """
    data = plan.read()
    device = Device(unified=gpu.tegra)
    try:
        return TensorRtBackend(tensorrt, data, device, graph_batches=GRAPH_BATCHES if graphs else 0)
    except BaseException:
        device.close()
        raise


def about(plan: Plan) -> dict[str, str]:
    """What tells a plan from others, for the note of its verification."""
    return {"plan": plan.key.digest, "plan_sha256": plan.sha256}


def note_of(plan: Plan) -> Path:
    """The file that tells how the plan's first-load verification went."""
    return plan.folder / NOTE_NAME


def _check_here(key: PlanKey, bundle: Bundle, tensorrt: TensorRT, gpu: Gpu) -> None:
    """The order is for what is here: after a card, a driver or a TensorRT was changed, it no longer is (F14)."""
    here: dict[str, Any] = {
        "model_sha256": bundle.model_sha256,
        "product": tensorrt.product,
        "version": tensorrt.version,
        "gpu": gpu.name,
        "compute_capability": ".".join(map(str, gpu.compute_capability)),
        "driver": gpu.driver,
        "device": device_id(),
    }
    for name, found in here.items():
        if (due := getattr(key, name)) != found:
            raise PlanRefused(f"the plan is for {name} {due!r}, and here is {found!r}; {_COMPILE}")


def open_backend(bundle: Path, *, cache: str, key: Mapping[str, Any], graphs: bool = True) -> TensorRtBackend:
    """Open a compiled plan that has passed its first-load verification on this device.

    Args:
        bundle: the bundle's folder; its signature and hashes were checked by ``engines.bundle``.
        cache: the device's cache folder.
        key: the plan's key, field by field (see :class:`engines.tensorrt.plan_key.PlanKey`).
        graphs: record CUDA graphs where cuda-bindings is installed.

    Raises:
        NoGpu: there is no GPU to use; raised before anything that would crash (F13).
        NoTensorRT: TensorRT is not installed.
        PlanError: the plan is damaged or not this device's.
        PlanRefused: it is not there, unproved, for another device, or TensorRT does not take it.
        BundleError: the manifest cannot be read.
    """
    from engines.verification import passed_before

    gpu, tensorrt = open_gpu()
    manifest = parse_manifest(bundle / MANIFEST_NAME, read_manifest_text(bundle))
    checked = Bundle(bundle, manifest, manifest.files.get(MODEL_NAME, ""))
    wanted = PlanKey(**key)
    _check_here(wanted, checked, tensorrt, gpu)
    plan = find_plan(Path(cache), wanted, check_hash=False)  # it is compared as it is read
    if plan is None:
        raise PlanRefused(f"{cache}: holds no plan for this model and device; {_COMPILE}")
    if not passed_before(note_of(plan), checked, about(plan)):
        raise PlanRefused(f"{plan.folder}: the plan has not passed its verification on this device; {_COMPILE}")
    return open_plan(plan, tensorrt, gpu, graphs=graphs)


def options_for(plan: Plan, cache: Path, *, graphs: bool = True) -> dict[str, Any]:
    """The options with which a worker opens this plan; plain data, for :class:`engines.backend.BackendSpec`."""
    return {"cache": str(cache), "key": asdict(plan.key), "graphs": graphs}
