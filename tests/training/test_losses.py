"""The loss against numbers computed by hand, and the balance of sampler and weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engines.classes import CLASSES
from training.batches import batches, sampled_class_weights
from training.data import ImageSet
from training.losses import class_weights, distillation_loss, lesion_loss, melanoma_focal
from training.recipe import Recipe


def logits_of(probabilities: list[float]) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


EVEN = [1 / 7] * 7


def test_class_weights_are_those_of_the_recipe() -> None:
    counts = torch.tensor([10.0, 30.0, 60.0])
    weights = class_weights(counts)
    torch.testing.assert_close(weights, torch.tensor([100 / 30, 100 / 90, 100 / 180]))
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize(("target", "p"), [(0, 0.8), (1, 0.2)])
def test_focal_loss_of_one_image(target: int, p: float) -> None:
    logits = logits_of([0.8, *[0.2 / 6] * 6])
    expected = -((1 - p) ** 2) * math.log(p)  # p: what the truth, melanoma or the rest, was given
    assert float(melanoma_focal(logits, torch.eye(7)[[target]])) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_with_exponent_zero_is_binary_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 7), torch.eye(7)[[0, 1, 0, 4, 6]]
    p = logits.softmax(dim=1)[:, 0]
    expected = torch.nn.functional.binary_cross_entropy(p, targets[:, 0])
    torch.testing.assert_close(melanoma_focal(logits, targets, gamma=0.0), expected)


def test_loss_is_weighted_cross_entropy_and_a_share_of_focal() -> None:
    weights = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0])
    logits, targets = logits_of(EVEN).expand(2, 7), torch.eye(7)[[0, 4]]
    focal = (-((6 / 7) ** 2) * math.log(1 / 7) - (1 / 7) ** 2 * math.log(6 / 7)) / 2
    expected = (2.0 + 0.5) / 2 * math.log(7) + 0.3 * focal
    assert float(lesion_loss(logits, targets, weights)) == pytest.approx(expected, rel=1e-5)


def test_distillation_loss_is_the_divergence_of_the_softened_answers() -> None:
    student, teacher = logits_of([0.5, 0.5]), logits_of([0.9, 0.1])
    p = 0.9**0.5 / (0.9**0.5 + 0.1**0.5)  # the teacher's answer at temperature 2; the student's stays even
    expected = 4 * (p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5))
    assert float(distillation_loss(student, teacher)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss(teacher + 3.0, teacher)) == pytest.approx(0.0, abs=1e-6)


def test_sampler_and_weights_together_balance_the_classes_once() -> None:
    counts = [40, 8, 60, 4, 400, 4, 12]
    labels = np.repeat(np.arange(7), counts)
    images = ImageSet(np.zeros((len(labels), 8, 8, 3), np.uint8), labels, tuple("x" for _ in labels))
    recipe = Recipe(batch=44, mixup_chance=0.0)
    weights = sampled_class_weights(labels, recipe).numpy()
    # Exactly: a class's share of the draws times its weight is the same for all.
    draws = np.array(counts) ** (1 - recipe.sampler_power)
    effect = draws / draws.sum() * weights
    np.testing.assert_allclose(effect, 1 / len(CLASSES), rtol=1e-5)
    # And the batches do draw so.
    drawn = np.zeros(7)
    for epoch in range(20):
        for _, targets in batches(images, 8, recipe, epoch):
            drawn += targets.sum(dim=0).numpy()
    np.testing.assert_allclose(drawn / drawn.sum(), draws / draws.sum(), atol=0.01)
