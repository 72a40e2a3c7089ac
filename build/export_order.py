"""What to export and what the bundle says of itself: given by who exports, else a default that says it is one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from build.bundle_writer import IMAGENET, BundleText
from build.checkpoint import Checkpoint, Origin
from engines.backend import BundleError
from engines.classes import CLASSES
from engines.manifest import OperatingPoint, ReferenceStatistics

NORMALISATIONS: Final = {
    "imagenet": IMAGENET,
    "half": IMAGENET.model_copy(update={"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}),
}
"""By name: ImageNet's mean and standard deviation, and 0.5 for both."""
_OURS: Final = ("a default: no threshold was given, and this one was chosen on no data", 0.5)
_LONGEST: Final = 640


@dataclass(frozen=True)
class ExportOrder:
    """What to export, and what the bundle says of itself; None leaves the choice to the exporter."""

    checkpoint: Path
    out: Path
    weights: str | None = None
    name: str | None = None
    version: str | None = None
    threshold: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    chosen_on: str | None = None
    golden: Path | None = None
    card: Path | None = None
    licence: str | None = None
    intended_use: str | None = None
    normalisation: str | None = None
    temperature: float = 1.0
    bias: tuple[float, ...] | None = None
    reference: Path | None = None
    half_storage: bool = False
    fp16: bool = True
    residual_single: bool = False
    replace: bool = False


def default_normalisation(checkpoint: Checkpoint) -> str:
    """The normalisation where none is named: 0.5 for timm's ViT weights, ImageNet's for torchvision's and ours."""
    return "half" if checkpoint.origin is Origin.TIMM else "imagenet"


def read_golden(path: Path) -> NDArray[np.uint8]:
    """The picture as ``[H, W, 3]`` uint8 RGB, its longer side at most 640 px; nothing of its metadata is kept.

    Raises:
        BundleError: it cannot be read or decoded.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    except (OSError, cv2.error) as error:
        raise BundleError(f"{path}: the golden image cannot be read ({error}); name a JPEG or PNG") from error
    if bgr is None:
        raise BundleError(f"{path}: the golden image cannot be decoded; name a JPEG or PNG")
    scale = _LONGEST / max(bgr.shape[:2])
    if scale < 1:
        bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def read_reference(path: Path) -> ReferenceStatistics:
    """What the training images looked like, from a JSON file; :class:`BundleError` says what it lacks."""
    try:
        return ReferenceStatistics.model_validate_json(read_text(path))
    except ValueError as error:
        keys = ", ".join(ReferenceStatistics.model_fields)
        raise BundleError(
            f"{path}: is no reference statistics; a JSON object with these keys is due: {keys}"
        ) from error


def read_text(path: Path) -> str:
    """A text file in UTF-8; :class:`BundleError` says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read as text ({error})") from error


def _name_and_version(order: ExportOrder) -> tuple[str, str]:
    """As given, else as the folder is called (``.../NAME/VERSION``), else from the checkpoint's name."""
    placed = bool(re.fullmatch(r"\d+\.\d+\.\d+", order.out.name))
    name = order.name or (order.out.absolute().parent.name if placed else order.checkpoint.stem)
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"
    return plain, order.version or (order.out.name if placed else "0.1.0")


def operating_point(order: ExportOrder) -> tuple[OperatingPoint, tuple[str, ...]]:
    """The melanoma threshold as given, or a default and a warning that says that it is one."""
    said, threshold = _OURS
    if order.threshold is None:
        warning = f"no --threshold: {threshold} was set, chosen on no data; choose one before the bundle is used"
        return OperatingPoint(threshold=threshold, chosen_on=said), (warning,)
    point = OperatingPoint(
        threshold=order.threshold,
        sensitivity=order.sensitivity,
        specificity=order.specificity,
        chosen_on=order.chosen_on or "not said",
    )
    return point, ()


def bundle_text(order: ExportOrder, checkpoint: Checkpoint, normalisation: str) -> BundleText:
    """What the bundle says of itself, its card left empty."""
    name, version = _name_and_version(order)
    return BundleText(
        name=name,
        version=version,
        architecture=checkpoint.architecture,
        provenance={
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": checkpoint.sha256,
            "weights": f"{checkpoint.origin.value}'s names" + (f", {order.weights}" if order.weights else ""),
            "normalisation": normalisation,
            "exporter": f"torch {torch.__version__}, onnx {onnx.__version__}, dermascan-edge"
            f" {installed_version('dermascan-edge')}",
            "golden_image": "synthetic" if order.golden is None else "given at export",
            "probabilities": f"softmax(logits / {order.temperature:g} + {list(order.bias or [0.0] * len(CLASSES))})",
        },
        licence=order.licence or "not stated: ask whoever trained the model",
        intended_use=order.intended_use
        or "Evaluation. An adjunct for trained clinicians who see the lesion themselves; never a diagnosis by itself.",
        card="",
    )
