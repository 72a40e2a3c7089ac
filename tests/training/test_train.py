"""The loop learns, keeps the best epoch, and writes what can be read back."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from build.vit import CONFIGS, ViTConfig
from training import train as train_module
from training.batches import batches
from training.checkpoint import enlarge, load, load_teacher
from training.data import ImageSet
from training.judge import Judgement
from training.recipe import Recipe, Stage
from training.train import EarlyStopping, learning_rate, train

TINY = ViTConfig(image_size=64, layers=2, heads=2, width=48, mlp_width=96)


@pytest.fixture
def drawings() -> ImageSet:
    """Sixteen pictures, seven kinds: a disc whose colour tells the class."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 0, 0, 4, 4, 0, 4, 1, 2, 0], np.int64)
    colours = rng.permutation(
        [(40, 40, 40), (200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200), (200, 40, 200)]
    )
    pixels = np.empty((16, 64, 64, 3), np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        picture[:] = (230, 190, 170)
        cv2.circle(picture, (32, 32), int(rng.integers(14, 22)), colours[label].tolist(), -1)
    return ImageSet(pixels, labels, tuple(f"{i}" for i in range(16)))


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "tiny", TINY)


def record_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("tiny_model")
def test_a_few_steps_learn_a_few_pictures(drawings: ImageSet, tmp_path: Path) -> None:
    stages = (Stage(32, 20, 3e-3, 1), Stage(64, 10, 1e-3, 1))
    recipe = Recipe("tiny", None, stages=stages, batch=8, drop_path=0.0, ema_decay=0.8, mixup_chance=0.0, patience=99)
    best = train(drawings, drawings, recipe, tmp_path)
    records = record_lines(tmp_path)
    assert records[-1]["train_loss"] < 0.6 * records[0]["train_loss"]
    assert max(record["auroc"] for record in records) > 0.9
    assert best == tmp_path / "best-1-64.pt"
    assert load(best).config.image_size == 64
    assert json.loads((tmp_path / "recipe.json").read_text())["batch"] == 8


@pytest.mark.usefixtures("tiny_model")
def test_the_same_seed_gives_the_same_run(drawings: ImageSet, tmp_path: Path) -> None:
    recipe = Recipe("tiny", None, stages=(Stage(32, 2, 1e-3, 1),), batch=8)
    first = load(train(drawings, drawings, recipe, tmp_path / "a")).state_dict()
    second = load(train(drawings, drawings, recipe, tmp_path / "b", workers=3)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("tiny_model")
def test_the_checkpoint_kept_is_that_of_the_best_epoch(
    drawings: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.3, 0.7, 0.7, 0.5, 0.4, 0.2, 0.1, 0.1])

    def judged(*_: object) -> Judgement:
        return Judgement(next(figures), 0.5, 0.5, 1.0)

    monkeypatch.setattr(train_module, "judge", judged)
    recipe = Recipe("tiny", None, stages=(Stage(32, 8, 1e-3, 1),), batch=16, patience=3)
    best = train(drawings, drawings, recipe, tmp_path)
    assert torch.load(best, weights_only=True)["about"]["epoch"] == 1
    assert len(record_lines(tmp_path)) == 6  # epoch 5 is the first of the second half that is 3 past the best


def test_early_stopping_waits_for_the_second_half_and_breaks_ties_by_auroc() -> None:
    stopping = EarlyStopping(epochs=10, patience=2)
    assert stopping.is_best(0, Judgement(0.5, 0.6, 0, 0))
    assert not stopping.is_best(1, Judgement(0.5, 0.6, 0, 0))
    assert stopping.is_best(2, Judgement(0.5, 0.7, 0, 0))
    assert not stopping.is_best(3, Judgement(0.4, 0.99, 0, 0))
    assert not stopping.should_end(5)
    assert stopping.should_end(6)
    assert stopping.best_epoch == 2


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    rates = [learning_rate(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert learning_rate(100, 100, 10) == pytest.approx(0.0)


def test_mixup_mixes_pictures_and_labels_alike(drawings: ImageSet) -> None:
    recipe = Recipe(batch=16, mixup_chance=1.0, mixup_alpha=5.0)
    views, targets = next(iter(batches(drawings, 32, recipe, 0)))
    assert views.shape == (16, 3, 32, 32)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(16))
    assert ((targets > 0.01) & (targets < 0.99)).any()


@pytest.mark.usefixtures("tiny_model")
def test_a_teacher_is_trained_first_and_taught_from(drawings: ImageSet, tmp_path: Path) -> None:
    recipe = Recipe("tiny", Stage(48, 1, 1e-3, 1), stages=(Stage(32, 1, 1e-3, 1),), batch=8)
    best = train(drawings, drawings, recipe, tmp_path)
    assert best == tmp_path / "best-0-32.pt"
    assert [(record["stage"], record["image_size"]) for record in record_lines(tmp_path)] == [
        ("teacher", 48),
        ("0", 32),
    ]
    teacher = load_teacher(tmp_path / "best-teacher-48.pt").eval()
    again = train(drawings, drawings, recipe, tmp_path / "again", teacher=teacher)
    assert again.exists()
    assert not (tmp_path / "again" / "best-teacher-48.pt").exists()


@pytest.mark.usefixtures("tiny_model")
def test_enlarging_changes_the_positions_alone() -> None:
    small = train_module.VisionTransformer(ViTConfig(image_size=32, layers=2, heads=2, width=48, mlp_width=96))
    large = enlarge(small, TINY, drop_path=0.0)
    before, after = small.state_dict(), large.state_dict()
    changed = {name for name in after if before[name].shape != after[name].shape}
    assert changed == {"encoder.pos_embedding"}
    assert all(torch.equal(before[name], after[name]) for name in after if name not in changed)
