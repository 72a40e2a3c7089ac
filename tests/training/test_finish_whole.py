"""From a checkpoint to a bundle, whole, on a small made-up data set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from build.random_bundle import random_model
from build.vit import ViTConfig
from engines.bundle import golden_input, load_bundle
from engines.classes import CLASSES
from engines.onnx_cpu import open_backend
from training.card import render_card
from training.checkpoint import save
from training.figures import Report
from training.finish import Order, finish


@pytest.fixture(scope="module")
def made_up_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in the folders and tables of the real data sets: every class, every part."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def picture(path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))

    rows = ["image_id,lesion_id,diagnosis,confirmed_by,age,sex,localization"]
    for i in range(140):
        rows.append(f"HAM_{i:04},L{i:04},{CLASSES[i % 7]},histo,,,")
        picture(root / "ham10000" / "images" / f"HAM_{i:04}.jpg", 224)
    (root / "ham10000" / "labels.csv").write_text("\n".join(rows) + "\n")
    rows = ["split,image_id,melanoma,seborrheic_keratosis"]
    for i in range(60):
        part = "val" if i < 12 else "train"
        rows.append(f"{part},ISIC_{i:07},{int(i % 3 == 0)},{int(i % 3 == 1)}")
        picture(root / "isic2017" / part / f"ISIC_{i:07}.jpg", 256)
    (root / "isic2017" / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_checkpoint_becomes_a_bundle_that_runs(made_up_data: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "best-0-128.pt"
    small = ViTConfig(image_size=128, layers=2, heads=2, width=32, mlp_width=64)
    save(checkpoint, random_model(small), {"epoch": 0})
    out = tmp_path / "small" / "0.0.1"
    report = finish(Order(made_up_data, checkpoint, out, rounds=20, threads=1))
    bundle = load_bundle(out)
    assert bundle.label == "small/0.0.1"
    assert Report.from_json((out / "figures.json").read_text(encoding="utf-8")) == report
    assert (out / "MODEL_CARD.md").read_text(encoding="utf-8") == render_card(report)
    assert [(g.part, g.source, g.view) for g in report.groups] == [
        *(("test", source, view) for view in ("centre_crop", "squashed") for source in ("all", "ham10000", "isic2017")),
        *(("external", "all", view) for view in ("centre_crop", "squashed")),
    ]
    assert report.groups[-1].images == 12
    assert report.threshold.sensitivity.value >= 0.9
    assert report.calibration.nll_after <= report.calibration.nll_before
    golden = bundle.manifest.golden
    answer = open_backend(out, threads=1).run(golden_input(bundle)).probabilities[0]
    np.testing.assert_allclose(answer, golden.probabilities, atol=1e-4)
    statistics = bundle.manifest.reference_statistics
    assert statistics is not None
    assert statistics.images == sum(report.part_counts["train"].values())
    assert sum(statistics.predicted_shares) == pytest.approx(1, abs=1e-3)
    assert all(0.4 < value < 0.6 for value in statistics.mean_rgb)  # of even noise
