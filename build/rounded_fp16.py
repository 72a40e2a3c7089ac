"""A bundle's FP16 graph as a backend, on a CPU that has no FP16: every FP16 result is rounded as on a card.

Named by ``dermascan engine verify --backend cpu-fp16`` and opened in its worker process; needs the build stage's
packages. ``build.rounding`` says why ONNX Runtime alone would flatter the graph.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from build.onnx_file import read_model
from build.rounding import with_rounding
from engines.onnx_cpu import OnnxCpu, session_options


def open_backend(bundle: Path, file: str = "model.fp16.onnx", threads: int = 0) -> OnnxCpu:
    """Open a bundle's FP16 graph with its roundings.

    Args:
        bundle: the bundle's folder; its hashes were checked.
        file: name of the graph.
        threads: compute threads; 0 takes one for each core that this process may use.

    Raises:
        GraphError: the file is no graph of this project's exporter.
    """
    graph = with_rounding(read_model(bundle / file)).SerializeToString()
    options = session_options(threads, spinning=False)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return OnnxCpu(ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]))
