"""From a checkpoint to a bundle with honest figures: ``python -m training.finish --data D --checkpoint F --out D``.

Calibrates the probabilities and chooses the operating threshold on the validation part, then measures the exported
model, not the network in training, on images that no step before has seen, and writes bundle and model card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from build.bundle_writer import FP16_NAME, IMAGENET, BundleText, cpu_session, probabilities, write_bundle
from build.export import export_onnx
from build.fp16 import export_fp16
from build.random_bundle import synthetic_lesion
from build.vit import CONFIGS, VisionTransformer
from engines.classes import CLASSES, MELANOMA
from engines.manifest import OperatingPoint, ReferenceStatistics
from engines.preprocess import preprocess
from training.augment import View, picture_in_view
from training.calibrate import Calibration, fit, melanoma_threshold
from training.card import INTENDED_USE, LICENCE, LICENCE_NAME, LICENCE_TEXT, render_card
from training.checkpoint import enlarge, load
from training.data import ImageSet, Part, parts_of
from training.figures import GroupFigures, Report, StageRun, class_counts, group_figures, threshold_choice
from training.metrics import Floats

log = logging.getLogger("training.finish")  # __name__ is "__main__" on the command line
_MELANOMA: Final = CLASSES.index(MELANOMA)
_TRIED: Final = Path(__file__).with_name("tried.md")


@dataclass(frozen=True)
class Order:
    """What to finish, and how thoroughly."""

    data: Path
    checkpoint: Path
    out: Path
    run_log: Path | None = None
    tried: Path = _TRIED
    rounds: int = 1000
    threads: int = 0


def answers(session: onnxruntime.InferenceSession, images: ImageSet, view: View, batch: int = 32) -> Floats:
    """Probabilities ``[N, 7]`` of an exported model for the images in one view, preprocessed as a device does it."""
    rows = []
    for start in range(0, len(images.labels), batch):
        pictures = [picture_in_view(rgb, IMAGENET.size, view) for rgb in images.pixels[start : start + batch]]
        rows.append(probabilities(session, np.concatenate([preprocess(rgb, IMAGENET) for rgb in pictures])))
    return np.concatenate(rows).astype(np.float64)


def finish(order: Order) -> Report:
    """Calibrate, measure and write the bundle; returns what was measured."""
    model = load(order.checkpoint)
    if model.config.image_size != IMAGENET.size:
        log.info("enlarging the position embedding from %d to %d px", model.config.image_size, IMAGENET.size)
        model = enlarge(model, replace(model.config, image_size=IMAGENET.size), drop_path=0.0)
    log.info("reading and splitting the images")
    sets = parts_of(order.data)
    with tempfile.TemporaryDirectory() as folder:
        onnx_file = Path(folder) / "model.onnx"
        fitted = _calibrate(model, sets, onnx_file, order.threads)
        session = cpu_session(onnx_file, order.threads)
        validation = {view: answers(session, sets[Part.VALIDATION], view) for view in View}
        positive = sets[Part.VALIDATION].labels == _MELANOMA
        risks = [rows[:, _MELANOMA] for rows in validation.values()]
        threshold = melanoma_threshold(risks, positive)
        choice = threshold_choice(np.concatenate(risks), np.tile(positive, len(risks)), threshold)
        log.info("threshold %.4f: sensitivity %s, specificity %s", threshold, choice.sensitivity, choice.specificity)
        golden_seed = _golden_seed(session)
        report = Report(
            name=order.out.parent.name,
            version=order.out.name,
            architecture=_architecture(model),
            parameters=sum(p.numel() for p in model.parameters()),
            model_bytes=onnx_file.stat().st_size,
            golden=f"synthetic picture, seed {golden_seed}",
            part_counts={part.value: class_counts(images.labels) for part, images in sets.items()},
            stages=_stages(order.run_log),
            calibration=fitted,
            threshold=choice,
            groups=tuple(_measure(session, sets, threshold, order.rounds)),
            tried=order.tried.read_text(encoding="utf-8"),
        )
        point = OperatingPoint(
            threshold=threshold,
            sensitivity=choice.sensitivity.value,
            specificity=choice.specificity.value,
            chosen_on="validation part (by lesion, HAM10000 and ISIC 2017): 90 % sensitivity in each of two views",
        )
        reference = _reference(sets[Part.TRAIN], validation[View.CENTRE_CROP])
        text = _text(report, order.checkpoint)
        fp16 = export_fp16(onnx_file, Path(folder) / FP16_NAME)
        golden = synthetic_lesion(seed=golden_seed)
        write_bundle(order.out, onnx_file, golden, text, point, reference=reference, fp16_onnx=fp16)
    return report


def _calibrate(model: VisionTransformer, sets: Mapping[Part, ImageSet], onnx_file: Path, threads: int) -> Calibration:
    """Fit the head on the validation part's answers of the uncalibrated export, then export with it."""
    log.info("fitting temperature and biases on the validation part")
    export_onnx(model, onnx_file, fp16_weights=True)
    session = cpu_session(onnx_file, threads)
    validation = sets[Part.VALIDATION]
    logits = [np.log(np.maximum(answers(session, validation, view), 1e-30)) for view in View]
    counts = np.bincount(sets[Part.TRAIN].labels, minlength=len(CLASSES))
    fitted = fit(logits, validation.labels, np.maximum(counts, 1))
    export_onnx(model, onnx_file, fp16_weights=True, temperature=fitted.temperature, bias=fitted.bias)
    return fitted


def _measure(
    session: onnxruntime.InferenceSession, sets: Mapping[Part, ImageSet], threshold: float, rounds: int
) -> list[GroupFigures]:
    """The figures of the parts that were kept away, by source and view."""
    groups = []
    for part in (Part.TEST, Part.EXTERNAL):
        images = sets[part]
        sources = np.array(images.sources)
        names = ["all", *sorted(set(images.sources))] if part is Part.TEST else ["all"]
        for view in View:
            rows = answers(session, images, view)
            for name in names:
                chosen = np.full(len(sources), True) if name == "all" else sources == name
                where = (part.value, name, view.value)
                groups.append(group_figures(where, rows[chosen], images.labels[chosen], threshold, rounds))
                log.info("%s: AUROC %s, sensitivity %s", " ".join(where), groups[-1].auroc, groups[-1].sensitivity)
    return groups


def _golden_seed(session: onnxruntime.InferenceSession, among: int = 32) -> int:
    """The synthetic picture, by its seed, whose answer is least decided: there faults of an engine show most."""
    rows = [probabilities(session, preprocess(synthetic_lesion(seed=seed), IMAGENET))[0] for seed in range(among)]
    return int(np.stack(rows).max(axis=1).argmin())


def _reference(train: ImageSet, validation: Floats) -> ReferenceStatistics:
    """Colours of the training images after crop and resize, and the answers on the validation part (4:3 view).

    The answers are not those on the training images: a network is surer of what it was trained on than of what it
    meets.
    """
    sums, squares = np.zeros(3), np.zeros(3)
    for rgb in train.pixels:
        values = picture_in_view(rgb, IMAGENET.size, View.CENTRE_CROP).reshape(-1, 3) / 255.0
        sums += values.mean(axis=0)
        squares += (values**2).mean(axis=0)
    mean = sums / len(train.pixels)
    std = np.sqrt(squares / len(train.pixels) - mean**2)
    shares = np.bincount(validation.argmax(axis=1), minlength=len(CLASSES)) / len(validation)
    return ReferenceStatistics(
        images=len(train.pixels),
        mean_rgb=_triple(mean),
        std_rgb=_triple(std),
        predicted_shares=tuple(round(float(s), 5) for s in shares),
        mean_confidence=round(float(validation.max(axis=1).mean()), 5),
    )


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (round(float(v), 5) for v in values)
    return red, green, blue


def _architecture(model: VisionTransformer) -> str:
    return next((name for name, config in CONFIGS.items() if config == model.config), "vision_transformer")


def _stages(run_log: Path | None) -> tuple[StageRun, ...]:
    """Epochs, best epoch and duration of each stage, from the training's ``log.jsonl``."""
    if run_log is None:
        return ()
    records = [json.loads(line) for line in run_log.read_text(encoding="utf-8").splitlines()]
    stages = []
    for name in dict.fromkeys(record["stage"] for record in records):  # in the order of the log
        own = [record for record in records if record["stage"] == name]
        best = max(own, key=lambda record: (record["sensitivity_at_85"], record["auroc"]))
        hours = round(sum(record["seconds"] for record in own) / 3600, 2)
        stages.append(StageRun(str(name), own[0]["image_size"], len(own), best["epoch"], hours))
    return tuple(stages)


def _text(report: Report, checkpoint: Path) -> BundleText:
    provenance = {
        "data": "HAM10000 (CC BY-NC 4.0) and ISIC 2017 training images (CC-0), split by lesion",
        "training": "training.train from random weights; see docs/training.md",
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "golden_image": f"{report.golden} (build.random_bundle.synthetic_lesion)",
        "figures": "figures.json, measured through model.onnx on lesions kept away from training and choosing",
        "reference_statistics": "colours: training images, centre-cropped; answers: validation images, centre-cropped",
    }
    return BundleText(
        name=report.name,
        version=report.version,
        architecture=report.architecture,
        provenance=provenance,
        licence=LICENCE,
        intended_use=INTENDED_USE,
        card=render_card(report),
        extra_files={LICENCE_NAME: LICENCE_TEXT, "figures.json": report.to_json()},
    )


def main() -> None:
    """Command line of the finisher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ham10000/ and isic2017/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint of training.train")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder, .../NAME/VERSION")
    parser.add_argument("--run-log", type=Path, help="the training's log.jsonl, for the model card")
    parser.add_argument("--tried", type=Path, default=_TRIED, help="Markdown for the card: what was tried")
    parser.add_argument("--rounds", type=int, default=1000, help="rounds of the bootstrap")
    parser.add_argument("--threads", type=int, default=0, help="threads of ONNX Runtime; 0: it chooses")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)  # ours alone: the exporter says much that helps nobody
    cv2.setNumThreads(1)
    finish(Order(**vars(arguments)))
    print(f"bundle: {arguments.out}")


if __name__ == "__main__":
    main()
