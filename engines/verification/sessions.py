"""ONNX Runtime sessions for a verification. Imported by worker processes only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnxruntime as ort

from engines.backend import BundleError
from engines.onnx_cpu import OnnxCpu, session_options

FP16_MODEL: Final = "model.fp16.onnx"


def open_graph(bundle: Path, file: str = "model.onnx", threads: int = 0) -> OnnxCpu:
    """Open one of the bundle's graphs with no more than basic optimisation (constants folded, no fused kernels).

    The reference must not share a fused kernel with what it judges.

    Args:
        bundle: the bundle's folder.
        file: name of the graph.
        threads: compute threads; 0 takes one for each core that this process may use.

    Raises:
        BundleError: the file cannot be loaded.
    """
    options = session_options(threads, spinning=False)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = ort.InferenceSession(str(bundle / file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own error classes share no public base
        raise BundleError(f"{bundle / file}: ONNX Runtime cannot load it ({error}); export the bundle again") from error
    return OnnxCpu(session)
