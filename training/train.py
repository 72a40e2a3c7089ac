"""Train a Vision Transformer on dermoscopic images: ``python -m training.train --data DIR --out DIR``.

The recipe: random rotation, flips, crops, colour jitter, random erasing and mixup; a weighted sampler and class
weights that together balance the classes once; weighted cross-entropy + 0.3 x focal loss on melanoma; AdamW, weight
decay 0.01, cosine schedule; an exponential moving average of the weights. First a small convolutional teacher is
trained, then the transformer, on the labels and on the teacher's answers for the same views. It trains in stages of
growing image size: a small image costs a third of the time and teaches nearly as much. After each epoch the averaged
model is judged by its melanoma sensitivity at 85 % specificity on the validation part (sensitivity alone is won by
calling everything melanoma); the best is kept.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from build.initialise import initialise_mimetic
from build.vit import CONFIGS, VisionTransformer
from engines.classes import CLASSES
from training.batches import batches, sampled_class_weights
from training.checkpoint import enlarge, load, load_teacher, save
from training.data import ImageSet, Part, parts_of
from training.judge import Judgement, judge
from training.losses import distillation_loss, lesion_loss
from training.recipe import Recipe, Stage
from training.teacher import Teacher, TeacherConfig

Learner = TypeVar("Learner", VisionTransformer, Teacher)


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine to zero; a factor in 0..1."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


@dataclass(frozen=True)
class Task:
    """What stays the same through all stages of a run; ``weights`` are the class weights ``[7]``, on the device."""

    train_set: ImageSet
    validation: ImageSet
    recipe: Recipe
    out: Path
    weights: Tensor
    workers: int = 1


class EarlyStopping:
    """Knows the best epoch of a stage, by melanoma sensitivity at 85 % specificity and then by AUROC."""

    def __init__(self, epochs: int, patience: int) -> None:
        self.epochs = epochs
        self.patience = patience
        self.best = (-1.0, -1.0)
        self.best_epoch = 0

    def is_best(self, epoch: int, seen: Judgement) -> bool:
        """Take an epoch's figures; True where they are the best so far."""
        figures = (seen.sensitivity_at_85, seen.auroc)
        if figures <= self.best:
            return False
        self.best, self.best_epoch = figures, epoch
        return True

    def should_end(self, epoch: int) -> bool:
        """Whether nothing got better for ``patience`` epochs, in the second half of the stage."""
        return epoch - self.best_epoch >= self.patience and 2 * epoch > self.epochs


def train(
    train_set: ImageSet,
    validation: ImageSet,
    recipe: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    teacher: Teacher | None = None,
    start: VisionTransformer | None = None,
) -> Path:
    """Run a recipe; returns the path of the best checkpoint of the last stage. Progress goes to ``out/log.jsonl``.

    ``teacher``: one that is trained already, in place of the recipe's. ``start``: weights to go on from.
    """
    torch.manual_seed(recipe.seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")
    base = CONFIGS[recipe.model]
    weights = sampled_class_weights(train_set.labels, recipe).to(device)
    task = Task(train_set, validation, recipe, out, weights, workers)
    if teacher is None and recipe.teacher is not None:
        fresh = Teacher(TeacherConfig(classes=len(CLASSES)))
        fresh = fresh.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        teacher = _run_stage(fresh, recipe.teacher, "teacher", task)
    lesson = None
    if teacher is not None:
        size = recipe.teacher.image_size if recipe.teacher else recipe.stages[0].image_size
        lesson = Lesson(teacher.to(device).eval(), size, recipe.distil_share)
    model = start
    for number, stage in enumerate(recipe.stages):
        config = replace(base, image_size=stage.image_size, classes=len(CLASSES))
        if model is None:
            model = initialise_mimetic(VisionTransformer(config, recipe.drop_path))
        else:
            model = enlarge(model, config, recipe.drop_path)
        model = _run_stage(model.to(device), stage, str(number), task, lesson)
    return _checkpoint(task, "best", str(len(recipe.stages) - 1), recipe.stages[-1])


@dataclass(frozen=True)
class Lesson:
    """A teacher, the image size it knows, and how much its word counts."""

    teacher: Teacher
    image_size: int
    share: float

    def loss(self, logits: Tensor, views: Tensor) -> Tensor:
        """Distillation loss of the student's ``logits`` ``[N, 7]`` for ``views`` ``[N, 3, S, S]``."""
        if views.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            views = functional.interpolate(views, size, mode="bilinear", antialias=True)
        with torch.no_grad(), torch.autocast(views.device.type, torch.bfloat16):
            answers, _ = self.teacher(views)
        return distillation_loss(logits, answers.float())


def _checkpoint(task: Task, kind: str, name: str, stage: Stage) -> Path:
    return task.out / f"{kind}-{name}-{stage.image_size}.pt"


def _averaged(model: Learner, recipe: Recipe) -> AveragedModel:
    def follow(mean: Tensor, now: Tensor, seen: Tensor | int) -> Tensor:
        """Exponential moving average that forgets its start quickly: the decay grows to its final value."""
        decay = min(recipe.ema_decay, (1 + int(seen)) / (10 + int(seen)))
        return mean.lerp(now, 1 - decay)

    return AveragedModel(model, avg_fn=follow)


def _optimiser(model: Learner, rate: float, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; weight decay acts on matrices only, not on norms and biases."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def _run_stage(model: Learner, stage: Stage, name: str, task: Task, lesson: Lesson | None = None) -> Learner:
    recipe, device = task.recipe, task.weights.device
    average = _averaged(model, recipe)
    optimiser = _optimiser(model, stage.learning_rate, recipe)
    per_epoch = len(task.train_set.labels) // recipe.batch
    steps, warmup = per_epoch * stage.epochs, round(per_epoch * stage.warmup_epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate(step, steps, warmup))
    stopping = EarlyStopping(stage.epochs, recipe.patience)
    for epoch in range(stage.epochs):
        started, losses = time.monotonic(), []
        model.train()
        for views, targets in batches(
            task.train_set, stage.image_size, recipe, 1000 * stage.image_size + epoch, workers=task.workers
        ):
            with torch.autocast(device.type, torch.bfloat16):
                logits, _ = model(views.to(device))
            loss = lesion_loss(logits.float(), targets.to(device), task.weights)
            if lesson is not None:
                loss = (1 - lesson.share) * loss + lesson.share * lesson.loss(logits.float(), views.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            average.update_parameters(model)
            losses.append(loss.item())
        averaged = cast("Learner", average.module)
        seen = judge(averaged, task.validation, stage.image_size)
        record = {"stage": name, "image_size": stage.image_size, "epoch": epoch, "train_loss": float(np.mean(losses))}
        record |= {"seconds": round(time.monotonic() - started, 1), **asdict(seen)}
        with (task.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
        if stopping.is_best(epoch, seen):
            save(_checkpoint(task, "best", name, stage), averaged, record)
        save(_checkpoint(task, "last", name, stage), averaged, record)
        if stopping.should_end(epoch):
            break
    # The next stage goes on from the average of the last epoch: it has seen more than the luckiest one.
    return cast("Learner", average.module)


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ham10000/ and isic2017/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--model", choices=sorted(CONFIGS), default="vit_ti_16")
    parser.add_argument("--epochs", type=int, nargs=2, default=(18, 9), metavar=("SMALL", "FULL"))
    parser.add_argument("--start", type=Path, help="checkpoint to go on from, in place of random weights")
    parser.add_argument("--teacher", type=Path, help="checkpoint of a teacher that is trained already")
    parser.add_argument("--batch", type=int, default=Recipe.batch, help="images in one step")
    parser.add_argument("--device", default="cpu", help="torch device, e.g. cuda")
    parser.add_argument("--workers", type=int, default=1, help="threads that make random views; changes speed only")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    recipe = Recipe(model=arguments.model, batch=arguments.batch)
    stages = tuple(replace(s, epochs=n) for s, n in zip(recipe.stages, arguments.epochs, strict=True))
    sets = parts_of(arguments.data)
    for part, images in sets.items():
        print(part.value, np.bincount(images.labels, minlength=len(CLASSES)).tolist(), flush=True)
    recipe = replace(recipe, stages=stages)
    best = train(
        sets[Part.TRAIN],
        sets[Part.VALIDATION],
        recipe,
        arguments.out,
        device=arguments.device,
        workers=arguments.workers,
        teacher=load_teacher(arguments.teacher) if arguments.teacher else None,
        start=load(arguments.start) if arguments.start else None,
    )
    print(f"best checkpoint: {best}")


if __name__ == "__main__":
    main()
