"""The CPU backend on the demo bundle, in this process and in its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.backend import BundleError
from engines.bundle import load_bundle
from engines.golden import check_output, golden_check
from engines.ladder import open_ladder
from engines.onnx_cpu import open_backend


def test_the_golden_image_gives_the_golden_numbers(demo_bundle: Path) -> None:
    golden = golden_check(load_bundle(demo_bundle))
    backend = open_backend(demo_bundle, threads=1)
    golden.check(backend.run(golden.images))
    backend.close()
    with pytest.raises(RuntimeError, match="closed"):
        backend.run(golden.images)


@pytest.mark.requirement("R-ANS-5")
def test_a_batch_gives_each_picture_its_own_answer(demo_bundle: Path) -> None:
    images = np.random.default_rng(3).standard_normal((3, 3, 224, 224), dtype=np.float32)
    backend = open_backend(demo_bundle, threads=1)
    together = backend.run(images)
    check_output(together, 3)
    for index in range(3):
        alone = backend.run(images[index : index + 1])
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[index], atol=1e-4)
        np.testing.assert_allclose(alone.attention[0], together.attention[index], atol=1e-4)


def test_a_file_that_is_no_model_is_named(tmp_path: Path, demo_bundle: Path) -> None:
    shutil.copytree(demo_bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"model.onnx: ONNX Runtime cannot load it"):
        open_backend(tmp_path / "bundle")


def test_the_cpu_ladder_answers(demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)
    ladder = open_ladder(["cpu"], bundle, threads=1)
    ladder.start()
    try:
        assert ladder.wait_ready(20)
        golden = golden_check(bundle)
        result = ladder.run(golden.images, 10.0)
        golden.check(result.output)
        assert (result.backend, result.passed_over) == ("cpu", ())
        assert result.run_ms > 0
    finally:
        ladder.stop()
    assert not ladder.ready


def test_the_agents_side_never_loads_the_runtime() -> None:
    code = "import sys, engines.ladder; print([m for m in ('onnxruntime', 'torch', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
