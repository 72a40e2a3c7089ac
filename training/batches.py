"""What one training epoch is shown: random views of sampled images, and the class weights that go with the sampling."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.classes import CLASSES
from training.augment import AugmentConfig, random_view
from training.data import ImageSet
from training.losses import class_weights
from training.recipe import Recipe


def batches(
    images: ImageSet, size: int, recipe: Recipe, epoch_seed: int, workers: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of random batches: images ``[B, 3, size, size]`` float32 and soft targets ``[B, 7]``, mixed by chance.

    Every batch has a random generator of its own, so ``workers`` (threads that make batches) changes the speed and
    nothing else.
    """
    rng = np.random.default_rng([recipe.seed, epoch_seed])
    counts = np.bincount(images.labels, minlength=len(CLASSES)).astype(float)
    chance = (counts**-recipe.sampler_power)[images.labels]
    order = rng.choice(len(images.labels), len(images.labels), p=chance / chance.sum())
    augment = AugmentConfig()
    one_hot = np.eye(len(CLASSES), dtype=np.float32)

    def make(number: int) -> tuple[Tensor, Tensor]:
        own = np.random.default_rng([recipe.seed, epoch_seed, number])
        index = order[number * recipe.batch : (number + 1) * recipe.batch]
        views = torch.from_numpy(np.stack([random_view(images.pixels[i], size, own, augment) for i in index]))
        views = views.permute(0, 3, 1, 2).contiguous()
        targets = torch.from_numpy(one_hot[images.labels[index]])
        if own.random() < recipe.mixup_chance:  # Zhang et al. 2018, arXiv:1710.09412
            share = float(own.beta(recipe.mixup_alpha, recipe.mixup_alpha))
            views = share * views + (1 - share) * views.flip(0)
            targets = share * targets + (1 - share) * targets.flip(0)
        return views, targets

    total = len(order) // recipe.batch
    depth = max(4, 2 * workers)
    with ThreadPoolExecutor(workers, thread_name_prefix="augment") as pool:
        ahead = [pool.submit(make, n) for n in range(min(depth, total))]
        for number in range(total):
            batch = ahead.pop(0).result()
            if number + depth < total:
                ahead.append(pool.submit(make, number + depth))
            yield batch


def sampled_class_weights(labels: NDArray[np.int64], recipe: Recipe) -> Tensor:
    """Class weights ``[7]`` for what the sampler draws, so that both together balance the classes once."""
    counts = torch.from_numpy(np.bincount(labels, minlength=len(CLASSES)).astype(np.float32))
    return class_weights(counts ** (1 - recipe.sampler_power))
