"""The model card and the licence text of a bundle, written from its figures alone, so that the two cannot disagree."""

from __future__ import annotations

from typing import Final

from engines.classes import CLASSES
from training.figures import GroupFigures, Report
from training.metrics import Figure

LICENCE: Final = "CC-BY-NC-4.0"
LICENCE_NAME: Final = "LICENSE-WEIGHTS"
INTENDED_USE: Final = (
    "Research and demonstration. An adjunct for trained clinicians (21 CFR 878.1820) who see the lesion themselves;"
    " never a diagnosis by itself, and not a medical device."
)
LICENCE_TEXT: Final = """The model weights in this folder (model.onnx) are licensed under
Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0),
https://creativecommons.org/licenses/by-nc/4.0/legalcode

They were trained on images of the HAM10000 data set, which carries these terms: the weights are for research and
demonstration only, not for commercial use, and not for patient care. The software around them is licensed apart, under
Apache-2.0.

Please cite the data:

  Tschandl P., Rosendahl C., Kittler H. The HAM10000 dataset, a large collection of multi-source dermatoscopic images of
  common pigmented skin lesions. Sci Data 5:180161 (2018). doi:10.1038/sdata.2018.161. Licence: CC BY-NC 4.0.

  Codella N. et al. Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 International Symposium on
  Biomedical Imaging (ISBI), Hosted by the International Skin Imaging Collaboration (ISIC). ISBI 2018, arXiv:1710.05006.
  Licence of the images: CC-0.

golden.png is a synthetic picture, made by this project.
"""
_VIEWS: Final = {"centre_crop": "4:3 capture, centre-cropped", "squashed": "square copy as it is"}
_GATE_SENSITIVITY: Final = 0.90
_GATE_SPECIFICITY: Final = 0.50
_GATE_ACCURACY: Final = 0.84
_FEW: Final = 50
_TAUGHT: Final = """

The transformer learned from the labels and, with the larger weight, from the answers of a small convolutional teacher
to the same views (distillation, Touvron et al. 2021, arXiv:2012.12877). The teacher was trained here too, from random
weights, on the same training part, and is not in the bundle."""


def render_card(report: Report) -> str:
    """The model card as Markdown."""
    sections = [
        _head(report),
        _use(report),
        _data(report),
        _method(report),
        _decision(report),
        _results(report),
        _gates(report),
        _limits(report),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _percent(figure: Figure) -> str:
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _head(report: Report) -> str:
    return f"""# {report.name} {report.version}

A Vision Transformer (`{report.architecture}`, {report.parameters / 1e6:.1f} million parameters, patch 16, input 224 x
224) that gives seven lesion classes probabilities from one dermoscopic image, and shows where it looked. **For
research and demonstration only.**

- Weights: {LICENCE}, non-commercial, because of the data ([{LICENCE_NAME}]({LICENCE_NAME})); the code is Apache-2.0.
- File: `model.onnx`, {report.model_bytes / 1e6:.1f} MB, large weights stored as float16, computed in float32.
- All figures below were measured through this very file. The same numbers, for machines: `figures.json`."""


def _use(report: Report) -> str:
    return f"""## Intended use

{INTENDED_USE} It was made so that the software around it has something real to run.
It is not for screening without a clinician, for lesions other than pigmented skin lesions seen through a dermoscope,
or for ruling melanoma out. The golden image of the self-test is a {report.golden}, made by this project."""


def _data(report: Report) -> str:
    order = ("train", "validation", "test", "external")
    rows = [
        [part, *(str(report.part_counts[part][name]) for name in CLASSES), str(sum(report.part_counts[part].values()))]
        for part in order
    ]
    return f"""## Data

HAM10000 (Tschandl et al. 2018, one image per lesion, 224 x 224 copies) and the ISIC 2017 challenge's training images
(Codella et al. 2018, 256 x 256 copies, which know melanoma, seborrhoeic keratosis, taken as benign keratosis, and
otherwise nevus). The copies are squashed to squares. `external` is the challenge's official validation part and its
near-copies: images of another collection than HAM10000's, though of the same one as some training images.

{_table(["part", *(name.replace("_", " ") for name in CLASSES), "all"], rows)}

**The split is by lesion.** Images of one lesion, and near-copies of each other (256-bit difference hashes at most 20
bits apart, across both sources), share a part; parts are drawn within each source and class. `test` and `external`
were used by no training step and no choice: not for weights, early stopping, calibration or threshold. Two in
five of HAM10000's labels are histopathology, most others follow-up, some consensus or confocal microscopy."""


def _method(report: Report) -> str:
    rows = [
        [
            f"{'teacher' if stage.name == 'teacher' else 'transformer'}, {stage.image_size} px",
            str(stage.epochs),
            str(stage.best_epoch + 1),
            f"{stage.hours:.2f}",
        ]
        for stage in report.stages
    ]
    taught = _TAUGHT if any(stage.name == "teacher" for stage in report.stages) else ""
    stages = _table(["stage", "epochs", "best epoch", "hours"], rows) if rows else "The log of the run was not at hand."
    return f"""## Training

From random weights (mimetic initialisation), no pretraining. Random rotation, flips, crops and proportions, colour
jitter, random erasing, mixup; a weighted sampler and class weights that together balance the classes once; weighted
cross-entropy + 0.3 x focal loss (gamma 2) on melanoma against the rest; AdamW, weight decay 0.01, cosine schedule;
averaged weights. The epoch was chosen by melanoma sensitivity at 85 % specificity on `validation`. `docs/training.md`
repeats it.{taught}

{stages}

### What was tried

{report.tried.strip() or "Nothing noted."}"""


def _decision(report: Report) -> str:
    fit, choice = report.calibration, report.threshold
    bias = ", ".join(f"{name.replace('_', ' ')} {value:+.2f}" for name, value in zip(CLASSES, fit.bias, strict=True))
    return f"""## Calibration and operating threshold

`probabilities = softmax(logits / T + b)`, fitted to `validation` (bias-corrected temperature scaling, Alexandari et
al. 2020, arXiv:1901.06852; the biases are shrunk towards what the class frequencies say). T = {fit.temperature:.3f};
b: {bias}. Negative log-likelihood on `validation`: {fit.nll_before:.3f} before, {fit.nll_after:.3f} after.

A melanoma risk of at least **{choice.threshold:.4f}** is called suspicious. The threshold is the highest that catches
{100 * choice.target_sensitivity:.0f} % of the melanomas of `validation` in each of two views (a 4:3 capture,
centre-cropped; the square copy as it is). There it measured: sensitivity {_percent(choice.sensitivity)}, specificity
{_percent(choice.specificity)}. The most probable class alone would miss many melanomas; the tables say how many."""


def _results(report: Report) -> str:
    parts = [
        "## Results",
        "Value and 95 % interval: Wilson's for proportions, a bootstrap stratified by class for others.",
    ]
    for group in report.groups:
        title = f"### `{group.part}`, {group.source}, {_VIEWS[group.view]}"
        parts += [f"{title}\n\n{_group_table(group)}", _f1_line(group)]
    return "\n\n".join(parts)


def _group_table(group: GroupFigures) -> str:
    rows = [
        ["images (melanomas)", f"{group.images} ({group.class_counts['melanoma']})"],
        ["melanoma AUROC", str(group.auroc)],
        ["melanoma sensitivity at the threshold", _percent(group.sensitivity)],
        ["melanoma specificity at the threshold", _percent(group.specificity)],
        ["melanomas that the most probable class alone catches", _percent(group.argmax_sensitivity)],
        ["accuracy (seven classes)", _percent(group.accuracy)],
        ["balanced accuracy", _percent(group.balanced_accuracy)],
        ["expected calibration error (15 bins)", str(group.expected_calibration_error)],
    ]
    return _table(["figure", "value"], rows)


def _f1_line(group: GroupFigures) -> str:
    return "F1: " + "; ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in group.f1.items()) + "."


def _gates(report: Report) -> str:
    main = next(g for g in report.groups if g.part == "test" and g.source == "all" and g.view == "centre_crop")
    useful = main.sensitivity.value > _GATE_SENSITIVITY and main.specificity.value >= _GATE_SPECIFICITY
    accurate = main.accuracy.value > _GATE_ACCURACY
    first = f"sensitivity {_percent(main.sensitivity)} at specificity {_percent(main.specificity)}"
    return f"""## Release gates

Measured on `test`, all sources, 4:3 view.

- Melanoma sensitivity above 90 % at a useful specificity (at least 50 %): **{_met(useful)}** ({first}).
- Accuracy above 84 %: **{_met(accurate)}** ({_percent(main.accuracy)}).

Whatever stands here, this model is a demonstration: a release also needs a clinical validation, which it does not
have."""


def _met(gate: bool) -> str:
    return "met" if gate else "not met"


def _limits(report: Report) -> str:
    counts = report.part_counts["test"]
    rare = [f"{name.replace('_', ' ')} ({counts[name]})" for name in CLASSES if counts[name] < _FEW]
    return f"""## Limits

- No external clinical validation. All images come from a few collections (Austria, Australia, and the ISIC archive's
  contributors); `external` shares its collection with a part of the training images.
- Mostly light skin. Darker skin types, children, nails, mucosa and scars are rare or absent; nothing is known of how
  the model does there.
- Few test images: {", ".join(rare)}. The figures of these classes say little.
- Other dermoscopes, lights, polarisation, rulers, gel and hair change the colours and the answers.
- It was trained on small squashed copies, so fine structures that a full capture shows were never seen.
- Prevalence here is that of the collections (about one melanoma in ten). Where melanoma is rarer, fewer of the
  suspicious calls are melanomas, and the probabilities are too high.
- The attention map shows where the last layer looked. It is no explanation of why, and no segmentation."""
