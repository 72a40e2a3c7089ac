"""The CPU backend: the bundle's portable model in ONNX Runtime. Imported by the worker process only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from engines.backend import BundleError, Images, Output

_INPUT: Final = "images"
_OUTPUTS: Final = ["probabilities", "attention"]
_ERRORS_ONLY: Final = 3


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def session_options(threads: int, *, spinning: bool) -> ort.SessionOptions:
    """Options of a session that shares its machine with decoding: ``threads`` 0 means one for each core."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = True
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return options


class OnnxCpu:
    """One ONNX Runtime session on the CPU."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session: ort.InferenceSession | None = session

    def run(self, images: Images) -> Output:
        """Run the model: ``[N, 3, S, S]`` float32 in, probabilities and attention out."""
        if self._session is None:
            raise RuntimeError("the backend is closed")
        probabilities, attention = self._session.run(_OUTPUTS, {_INPUT: images})
        return Output(np.asarray(probabilities), np.asarray(attention))

    def close(self) -> None:
        """Give the session's memory and threads back."""
        self._session = None


def open_backend(bundle: Path, threads: int = 0, spinning: bool = False) -> OnnxCpu:
    """Open the bundle's ``model.onnx``.

    Args:
        bundle: the bundle's folder; its hashes were checked by ``engines.bundle``.
        threads: compute threads; 0 takes one for each core that this process may use.
        spinning: let idle compute threads spin within a run.

    Raises:
        BundleError: the file cannot be loaded, or its graph has other inputs or outputs than the contract's.
    """
    path = bundle / "model.onnx"
    try:
        session = ort.InferenceSession(
            str(path), session_options(threads, spinning=spinning), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own error classes share no public base
        raise BundleError(f"{path}: ONNX Runtime cannot load it ({error}); install the bundle again") from error
    inputs, outputs = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if inputs != [_INPUT] or not set(_OUTPUTS) <= set(outputs):
        raise BundleError(
            f"{path}: the graph has inputs {inputs} and outputs {outputs}, where {[_INPUT]} and {_OUTPUTS} are due;"
            " install a bundle made for this version"
        )
    return OnnxCpu(session)
