"""No engine reports home: ONNX Runtime would, and leaves its files behind where it is about to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from engines.bundle import golden_input, load_bundle
from engines.onnx_cpu import open_backend
from pathlib import Path

folder = Path(sys.argv[1])
backend = open_backend(folder)
backend.run(golden_input(load_bundle(folder, check_hashes=False)))
"""


@pytest.mark.fault("F30")
def test_an_engine_leaves_nothing_at_home(demo_bundle: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", PROGRAM, str(demo_bundle)], check=True, cwd=root, env=environment)
    assert [path.name for path in tmp_path.rglob("*")] == []
