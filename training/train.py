"""Train a Vision Transformer on dermoscopic images: ``python -m training.train --data DIR --out DIR``.

The recipe: random rotation, flips, crops, colour jitter, random erasing and mixup; a weighted sampler and class weights that
together balance the classes once; weighted cross-entropy + 0.3 x focal loss on melanoma; AdamW, weight decay 0.01, cosine
schedule; an exponential moving average of the weights. Training runs in stages of growing image size: a small image costs
a third of the time and teaches nearly as much. After each epoch the averaged model is judged by its melanoma sensitivity
at 85 % specificity on the validation part (sensitivity alone is won by calling everything melanoma); the best is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from build.initialise import initialise_mimetic
from build.vit import CONFIGS, VisionTransformer, ViTConfig, resize_position_embedding
from engines.classes import CLASSES, MELANOMA
from training.augment import AugmentConfig, View, fixed_view, random_view
from training.data import ImageSet, Part, load_pixels, near_copies, read_tables, split
from training.losses import class_weights, lesion_loss
from training.metrics import auroc, balanced_accuracy, sensitivity_at_specificity

MELANOMA_INDEX: Final = CLASSES.index(MELANOMA)


@dataclass(frozen=True)
class Stage:
    """One part of the schedule at one image size; the cosine starts anew in each."""

    image_size: int
    epochs: int
    learning_rate: float
    warmup_epochs: float


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run beside the data."""

    model: str = "vit_ti_16"
    stages: tuple[Stage, ...] = (Stage(128, 50, 7e-4, 3), Stage(224, 12, 2.5e-4, 1))
    batch: int = 64
    weight_decay: float = 0.01
    drop_path: float = 0.1
    ema_decay: float = 0.998
    mixup_chance: float = 0.3
    mixup_alpha: float = 0.2
    sampler_power: float = 0.5
    """The sampler draws class i with weight ``N_i ** -sampler_power`` per image; class weights balance what remains."""
    patience: int = 15
    """Epochs without a better validation figure after which the second half of a stage ends early."""
    seed: int = 0


@dataclass(frozen=True)
class Judgement:
    """How a model did on a part, the two fixed views averaged."""

    sensitivity_at_85: float
    auroc: float
    balanced_accuracy: float
    loss: float


def predict(model: torch.nn.Module, images: ImageSet, size: int, view: View, batch: int = 128) -> Tensor:
    """Logits ``[N, 7]`` float32 of the images in one fixed view."""
    model.eval()
    device = next(model.parameters()).device
    rows = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for start in range(0, len(images.labels), batch):
            views = np.stack([fixed_view(rgb, size, view) for rgb in images.pixels[start : start + batch]])
            rows.append(model(torch.from_numpy(views).permute(0, 3, 1, 2).to(device))[0].float().cpu())
    return torch.cat(rows)


def judge(model: torch.nn.Module, images: ImageSet, size: int) -> Judgement:
    """Judge a model on labelled images, averaging the figures of both fixed views."""
    figures = []
    for view in View:
        logits = predict(model, images, size, view)
        probabilities = logits.double().softmax(dim=1).numpy()
        positive = images.labels == MELANOMA_INDEX
        scores = probabilities[:, MELANOMA_INDEX]
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(images.labels)).item()
        predicted = probabilities.argmax(axis=1)
        figures.append(
            (
                sensitivity_at_specificity(scores, positive),
                auroc(scores, positive),
                balanced_accuracy(predicted, images.labels),
                loss,
            )
        )
    return Judgement(*(float(v) for v in np.mean(figures, axis=0)))


def batches(images: ImageSet, size: int, recipe: Recipe, epoch_seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of random batches: images ``[B, 3, size, size]`` float32 and soft targets ``[B, 7]``, mixed by chance."""
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
    with ThreadPoolExecutor(1, thread_name_prefix="augment") as pool:
        ahead = [pool.submit(make, n) for n in range(min(4, total))]
        for number in range(total):
            batch = ahead.pop(0).result()
            if number + 4 < total:
                ahead.append(pool.submit(make, number + 4))
            yield batch


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine to zero; a factor in 0..1."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def sampled_class_weights(labels: NDArray[np.int64], recipe: Recipe) -> Tensor:
    """Class weights ``[7]`` for what the sampler draws, so that sampler and weights together balance the classes once."""
    counts = torch.from_numpy(np.bincount(labels, minlength=len(CLASSES)).astype(np.float32))
    return class_weights(counts ** (1 - recipe.sampler_power))


def enlarge(model: VisionTransformer, config: ViTConfig, drop_path: float) -> VisionTransformer:
    """The same weights in a model for another image size; only the position embedding is interpolated."""
    larger = VisionTransformer(config, drop_path)
    state = model.state_dict()
    key = "encoder.pos_embedding"
    state[key] = resize_position_embedding(state[key], config.grid)
    larger.load_state_dict(state)
    return larger


def save(path: Path, model: VisionTransformer, about: dict[str, object]) -> None:
    """Write a checkpoint atomically; it loads with ``torch.load(..., weights_only=True)``."""
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "config": asdict(model.config), "about": about}, temporary)
    os.replace(temporary, path)


def load(path: Path) -> VisionTransformer:
    """Read a checkpoint that :func:`save` wrote."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    model = VisionTransformer(ViTConfig(**content["config"]))
    model.load_state_dict(content["model"])
    return model


def train(train_set: ImageSet, validation: ImageSet, recipe: Recipe, out: Path, device: str = "cpu") -> Path:
    """Run a recipe; returns the path of the best checkpoint of the last stage. Progress goes to ``out/log.jsonl``."""
    torch.manual_seed(recipe.seed)
    out.mkdir(parents=True, exist_ok=True)
    base = CONFIGS[recipe.model]
    weights = sampled_class_weights(train_set.labels, recipe).to(device)
    model: VisionTransformer | None = None
    best_path = out / "best.pt"
    for number, stage in enumerate(recipe.stages):
        config = replace(base, image_size=stage.image_size, classes=len(CLASSES))
        if model is None:
            model = initialise_mimetic(VisionTransformer(config, recipe.drop_path))
        else:
            model = enlarge(model, config, recipe.drop_path)
        best_path = out / f"best-{number}-{stage.image_size}.pt"
        model = _run_stage(model.to(device), stage, number, train_set, validation, weights, recipe, best_path)
    return best_path


def _run_stage(
    model: VisionTransformer,
    stage: Stage,
    number: int,
    train_set: ImageSet,
    validation: ImageSet,
    weights: Tensor,
    recipe: Recipe,
    best_path: Path,
) -> VisionTransformer:
    device = weights.device

    def follow(mean: Tensor, now: Tensor, seen: Tensor | int) -> Tensor:
        """Exponential moving average that forgets its start quickly: the decay grows to its final value."""
        decay = min(recipe.ema_decay, (1 + int(seen)) / (10 + int(seen)))
        return mean.lerp(now, 1 - decay)

    average = AveragedModel(model, avg_fn=follow)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=stage.learning_rate, fused=True)
    per_epoch = len(train_set.labels) // recipe.batch
    steps, warmup = per_epoch * stage.epochs, round(per_epoch * stage.warmup_epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(step, steps, warmup))
    best, best_epoch = (-1.0, -1.0), 0
    for epoch in range(stage.epochs):
        started, losses = time.monotonic(), []
        model.train()
        for views, targets in batches(train_set, stage.image_size, recipe, 1000 * number + epoch):
            with torch.autocast(device.type, torch.bfloat16):
                logits, _ = model(views.to(device))
            loss = lesion_loss(logits.float(), targets.to(device), weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            average.update_parameters(model)
            losses.append(loss.item())
        seen = judge(average.module, validation, stage.image_size)
        record = {"stage": number, "image_size": stage.image_size, "epoch": epoch, "train_loss": float(np.mean(losses))}
        record |= {"seconds": round(time.monotonic() - started, 1), **asdict(seen)}
        with (best_path.parent / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
        if (seen.sensitivity_at_85, seen.auroc) > best:
            best, best_epoch = (seen.sensitivity_at_85, seen.auroc), epoch
            save(best_path, average.module, record)
        save(best_path.with_name(f"last-{number}-{stage.image_size}.pt"), average.module, record)
        if epoch - best_epoch >= recipe.patience and 2 * epoch > stage.epochs:
            break
    # The next stage goes on from the average of the last epoch: it has seen more than the luckiest one.
    trained: VisionTransformer = average.module
    return trained


def parts_of(root: Path, seed: int = 0) -> dict[Part, ImageSet]:
    """Read all images under ``root`` and split them by lesion."""
    images = read_tables(root)
    everything = load_pixels(images)
    parts = np.array([part.value for part in split(images, near_copies(everything.pixels), seed)])
    sets = {}
    for part in Part:
        index = np.flatnonzero(parts == part.value)
        names = tuple(everything.names[i] for i in index)
        sets[part] = ImageSet(everything.pixels[index], everything.labels[index], names)
    return sets


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ham10000/ and isic2017/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--model", choices=sorted(CONFIGS), default="vit_ti_16")
    parser.add_argument("--epochs", type=int, nargs=2, default=(50, 12), metavar=("SMALL", "FULL"))
    parser.add_argument("--device", default="cpu", help="torch device, e.g. cuda")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    recipe = Recipe(model=arguments.model)
    stages = tuple(replace(s, epochs=n) for s, n in zip(recipe.stages, arguments.epochs, strict=True))
    sets = parts_of(arguments.data)
    for part, images in sets.items():
        print(part.value, np.bincount(images.labels, minlength=len(CLASSES)).tolist(), flush=True)
    best = train(sets[Part.TRAIN], sets[Part.VALIDATION], replace(recipe, stages=stages), arguments.out, arguments.device)
    print(f"best checkpoint: {best}")


if __name__ == "__main__":
    main()
