"""The FP16 graph as a backend: rounded as on a card, named by ``engine verify``, and close to FP32."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from build.fp16 import export_fp16
from build.onnx_file import GraphError
from build.rounded_fp16 import open_backend
from engines.bundle import golden_input, load_bundle
from engines.onnx_cpu import open_backend as open_cpu
from engines.verification.sessions import open_graph
from engines.worker import find_factory


def test_rounding_shows_and_is_small(demo_bundle: Path, tmp_path: Path) -> None:
    shutil.copyfile(demo_bundle / "model.onnx", tmp_path / "model.onnx")
    export_fp16(tmp_path / "model.onnx", tmp_path / "model.fp16.onnx")
    images = golden_input(load_bundle(demo_bundle))
    exact = open_cpu(demo_bundle, threads=1).run(images).probabilities
    rounded = find_factory("build.rounded_fp16:open_backend")(tmp_path, threads=1).run(images)
    flattered = open_graph(tmp_path, "model.fp16.onnx", threads=1).run(images)
    assert rounded.probabilities.dtype == np.float32
    assert 0 < np.abs(rounded.probabilities - exact).max() < 0.005
    assert not np.array_equal(rounded.probabilities, flattered.probabilities)


@pytest.mark.parametrize("data", [b"", b"no graph"])
def test_what_is_no_graph_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.fp16.onnx").write_bytes(data)
    with pytest.raises(GraphError, match=r"model\.fp16\.onnx"):
        open_backend(tmp_path)
