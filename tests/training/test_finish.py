"""Calibration finds what was done to the scores, and the model card says what the figures say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import load_bundle
from engines.classes import CLASSES
from training import calibrate
from training.calibrate import Calibration, calibrated, fit, melanoma_threshold
from training.card import render_card
from training.figures import Report, StageRun, ThresholdChoice, class_counts, group_figures
from training.finish import _stages
from training.metrics import Figure, wilson

COUNTS = np.array([700, 300, 700, 60, 4000, 80, 160])


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """True log-probabilities ``[N, 7]`` and labels drawn from them."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1.5, (4000, 7)) + np.log(COUNTS / COUNTS.sum())
    probabilities = calibrated(scores, 1.0, [0.0])
    labels = np.array([rng.choice(7, p=p) for p in probabilities])
    return np.log(probabilities), labels


def test_fit_undoes_balanced_training_and_overconfidence(sample: tuple[np.ndarray, np.ndarray]) -> None:
    truth, labels = sample
    spoilt = 2.5 * (truth - np.log(COUNTS / COUNTS.sum()))  # what balanced, overconfident training answers
    found = fit([spoilt, spoilt], labels, COUNTS)
    assert found.temperature == pytest.approx(2.5, rel=0.1)
    assert found.nll_after < found.nll_before
    best = -truth[np.arange(len(labels)), labels].mean()
    assert found.nll_after == pytest.approx(best, abs=0.01)
    assert sum(found.bias) == pytest.approx(0, abs=1e-3)


def test_fit_leaves_true_probabilities_alone(sample: tuple[np.ndarray, np.ndarray]) -> None:
    truth, labels = sample
    found = fit([truth], labels, COUNTS)
    assert found.temperature == pytest.approx(1.0, abs=0.06)
    np.testing.assert_allclose(calibrated(truth, found.temperature, found.bias), np.exp(truth), atol=0.06)


def test_a_class_that_is_absent_by_chance_keeps_what_its_frequency_says(
    sample: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, labels = sample
    few = np.flatnonzero(labels != 3)[:600]
    assert not (labels[few] == 3).any()
    spoilt = truth - np.log(COUNTS / COUNTS.sum())
    found = fit([spoilt[few]], labels[few], COUNTS)
    whole = fit([spoilt], labels, COUNTS)
    assert found.bias[3] == pytest.approx(whole.bias[3], abs=0.8)
    monkeypatch.setattr(calibrate, "DEVIATION_SPREAD", 100.0)
    assert fit([spoilt[few]], labels[few], COUNTS).bias[3] < whole.bias[3] - 3  # unrestrained, it falls without end


def test_threshold_holds_in_every_view() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(500) < 0.2
    views = [np.clip(rng.normal(0.3 + 0.2 * positive, 0.15), 0, 1) for _ in range(2)]
    threshold = melanoma_threshold(views, positive)
    shares = [(view[positive] >= threshold).mean() for view in views]
    assert min(shares) >= 0.90
    assert any((view[positive] >= threshold + 0.02).mean() < 0.90 for view in views)


def small_report() -> Report:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), 12)
    probabilities = rng.dirichlet(np.ones(7), len(labels)) * 0.5 + 0.5 * np.eye(7)[labels]
    groups = tuple(
        group_figures((part, "all", view), probabilities, labels, 0.2, rounds=30)
        for part in ("test", "external")
        for view in ("centre_crop", "squashed")
    )
    counts = class_counts(labels)
    return Report(
        name="demo",
        version="1.0.0",
        architecture="vit_ti_16",
        parameters=5_500_000,
        model_bytes=11_000_000,
        golden="ISIC_0000000",
        part_counts=dict.fromkeys(("train", "validation", "test", "external"), counts),
        stages=(StageRun("0", 128, 10, 7, 0.5),),
        calibration=Calibration(1.5, (0.1, -0.1, 0.0, 0.0, 0.0, 0.0, 0.0), 1.2, 1.0),
        threshold=ThresholdChoice(0.2, 0.9, wilson(90, 100), wilson(50, 100)),
        groups=groups,
        tried="- a thing: it helped",
    )


def test_report_survives_its_file() -> None:
    report = small_report()
    assert Report.from_json(report.to_json()) == report


def test_card_says_figures_licence_and_limits() -> None:
    report = small_report()
    card = render_card(report)
    assert str(report.groups[0].auroc) in card
    assert "it helped" in card
    assert "teacher" not in card
    taught = replace(report, stages=(StageRun("teacher", 160, 9, 3, 0.2), *report.stages))
    assert "convolutional teacher" in render_card(taught)
    for words in ("CC-BY-NC-4.0", "never a diagnosis by itself", "No external clinical validation", "0.2000"):
        assert words in card


def test_card_judges_the_gates_by_the_figures() -> None:
    report = small_report()
    good = replace(
        report.groups[0],
        sensitivity=Figure(0.95, 0.9, 1),
        specificity=Figure(0.6, 0.5, 0.7),
        accuracy=Figure(0.9, 0.8, 1),
    )
    bad = replace(good, sensitivity=Figure(0.89, 0.8, 0.95), accuracy=Figure(0.8, 0.7, 0.9))
    met = render_card(replace(report, groups=(good, *report.groups[1:])))
    missed = render_card(replace(report, groups=(bad, *report.groups[1:])))
    assert (met.count("**met**"), met.count("**not met**")) == (2, 0)
    assert (missed.count("**met**"), missed.count("**not met**")) == (0, 2)


def test_stages_are_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [("teacher", 160, 0, 0.3), ("0", 128, 0, 0.3), ("0", 128, 1, 0.5), ("0", 128, 2, 0.4), ("1", 224, 0, 0.6)]
    keys = ("stage", "image_size", "epoch", "sensitivity_at_85")
    records = [dict(zip(keys, row, strict=True)) | {"auroc": 0.5, "seconds": 1800.0} for row in rows]
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert _stages(log) == (
        StageRun("teacher", 160, 1, 0, 0.5),
        StageRun("0", 128, 3, 1, 1.5),
        StageRun("1", 224, 1, 0, 0.5),
    )
    assert _stages(None) == ()


def test_committed_bundle_agrees_with_itself(demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)  # every hash
    if not (demo_bundle / "figures.json").exists():
        pytest.skip("the committed bundle is a preliminary one, without figures")
    texts = {"MODEL_CARD.md", "LICENSE-WEIGHTS", "figures.json"}
    assert {"model.onnx", "model.fp16.onnx", "golden.png"} | texts == set(bundle.manifest.files)
    report = Report.from_json((demo_bundle / "figures.json").read_text(encoding="utf-8"))
    assert render_card(report) == (demo_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert (report.name, report.version) == (bundle.manifest.name, bundle.manifest.version)
    assert report.model_bytes == bundle.model_path.stat().st_size <= 16_000_000
    point = bundle.manifest.operating_point
    assert point.threshold == report.threshold.threshold
    assert point.sensitivity == report.threshold.sensitivity.value >= 0.90
    assert bundle.manifest.reference_statistics is not None
    assert len(bundle.manifest.reference_statistics.predicted_shares) == len(CLASSES)
