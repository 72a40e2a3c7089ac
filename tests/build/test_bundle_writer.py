"""A written bundle is whole, self-tested and replaces an old one in one step."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from build import bundle_writer
from build.bundle_writer import BundleText, cpu_session, probabilities, write_bundle
from build.export import export_onnx
from build.fp16 import export_fp16
from build.random_bundle import MEANINGLESS, RandomBundle, make, random_model, synthetic_lesion
from build.vit import ViTConfig
from engines.backend import BundleError
from engines.bundle import golden_input, load_bundle, read_unsigned_bundle
from engines.manifest import OperatingPoint

pytestmark = pytest.mark.timeout(120)  # tracing takes seconds of processor time, and a busy machine gives few

TEXT = BundleText(
    "test", "1.2.3", "vit", {"from": "a test"}, "CC0-1.0", "tests", "# test\n", {"LICENSE-WEIGHTS": "none"}
)
POINT = OperatingPoint(threshold=0.3, sensitivity=0.9, specificity=0.5, chosen_on="nothing")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(random_model(ViTConfig(layers=2, heads=2, width=32, mlp_width=64)), path, fp16_weights=True)
    return path


def test_bundle_loads_with_its_hashes_and_its_golden_answer(model_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test" / "1.2.3"
    manifest = write_bundle(folder, model_file, synthetic_lesion(), TEXT, POINT)
    bundle = load_bundle(folder)
    assert bundle.manifest == manifest
    assert set(manifest.files) == {"model.onnx", "golden.png", "MODEL_CARD.md", "LICENSE-WEIGHTS"}
    stored = cv2.cvtColor(cv2.imread(str(folder / "golden.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(stored, synthetic_lesion())
    answer = probabilities(cpu_session(bundle.model_path, threads=1), golden_input(bundle))[0]
    np.testing.assert_allclose(answer, manifest.golden.probabilities, atol=1e-5)
    assert np.ptp(answer) > 0.05  # equal probabilities would pass for many a fault
    assert [path.name for path in folder.parent.iterdir()] == ["1.2.3"]


def test_the_fp16_graph_is_listed_and_hashed_with_the_rest(model_file: Path, tmp_path: Path) -> None:
    half = export_fp16(model_file, tmp_path / "half.onnx")
    folder = tmp_path / "1.2.3"
    manifest = write_bundle(folder, model_file, synthetic_lesion(), TEXT, POINT, fp16_onnx=half)
    assert manifest.files["model.fp16.onnx"] == hashlib.sha256(half.read_bytes()).hexdigest()
    load_bundle(folder)
    (folder / "model.fp16.onnx").write_bytes(model_file.read_bytes())
    with pytest.raises(BundleError, match=r"model\.fp16\.onnx: the file was changed or damaged"):
        load_bundle(folder)


@pytest.mark.fault("F15")
def test_a_bundle_may_wait_for_its_signature(model_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1.2.3"
    manifest = write_bundle(folder, model_file, synthetic_lesion(), TEXT, POINT, signed=False)
    assert not (folder / "signature.json").exists()
    assert read_unsigned_bundle(folder).manifest == manifest
    with pytest.raises(BundleError, match=r"signature\.json"):
        load_bundle(folder)


def test_a_folder_of_other_things_is_not_replaced(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="holds files that are no bundle"):
        write_bundle(tmp_path, model_file, synthetic_lesion(), TEXT, POINT)
    with pytest.raises(BundleError, match="is a file"):
        write_bundle(tmp_path / "notes.txt", model_file, synthetic_lesion(), TEXT, POINT)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", model_file, synthetic_lesion(), TEXT, POINT)
    load_bundle(tmp_path / "empty")


def test_a_bundle_replaces_the_one_that_was_there(model_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1.2.3"
    write_bundle(folder, model_file, synthetic_lesion(), TEXT, POINT)
    (folder / "stale.txt").write_text("old")
    write_bundle(folder, model_file, synthetic_lesion(seed=1), replace(TEXT, card="# second\n"), POINT)
    assert (folder / "MODEL_CARD.md").read_text() == "# second\n"
    assert not (folder / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.3"]


def test_a_failure_leaves_the_old_bundle_alone(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "1.2.3"
    write_bundle(folder, model_file, synthetic_lesion(), TEXT, POINT)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.startswith(".1.2.3.") and target == folder:
            raise OSError("the disk is full")
        return rename(path, target)

    monkeypatch.setattr(bundle_writer.Path, "rename", fail)
    with pytest.raises(OSError, match="full"):
        write_bundle(folder, model_file, synthetic_lesion(), replace(TEXT, card="# second\n"), POINT)
    assert (folder / "MODEL_CARD.md").read_text() == "# test\n"
    load_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.3"]


def test_random_bundle_says_that_it_means_nothing(tmp_path: Path) -> None:
    manifest = make(RandomBundle("vit_ti_16", tmp_path / "0.0.0", fp16_weights=True, fp16_graph=True))
    assert "model.fp16.onnx" in manifest.files
    assert manifest.name == "random-vit-ti-16"
    assert manifest.intended_use == MEANINGLESS
    assert MEANINGLESS in (tmp_path / "0.0.0" / "MODEL_CARD.md").read_text()
    assert np.ptp(manifest.golden.probabilities) > 0.05
    load_bundle(tmp_path / "0.0.0")
