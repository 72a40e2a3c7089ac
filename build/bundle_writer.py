"""Writes an engine bundle: a folder with model, manifest, golden image, model card and licence, all or nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from build.export import INPUT, PROBABILITIES
from engines.classes import CLASSES
from engines.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Golden,
    InputContract,
    Manifest,
    OperatingPoint,
    ReferenceStatistics,
)
from engines.preprocess import preprocess

MODEL_NAME: Final = "model.onnx"
GOLDEN_NAME: Final = "golden.png"
CARD_NAME: Final = "MODEL_CARD.md"
GOLDEN_TOLERANCE: Final = 0.01
"""Honest backends differ from ONNX Runtime on the CPU by rounding: about 1e-5 in float32, a few 1e-3 in float16.

A backend that computes something else (F12, F14) is off by far more than 0.01, and 0.01 moves no answer that a
clinician would notice.
"""
IMAGENET: Final = InputContract(
    size=224,
    crop="centre_square",
    resize="area",
    colour_order="RGB",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


@dataclass(frozen=True)
class BundleText:
    """What a bundle says of itself; ``card`` is Markdown, ``extra_files`` are further texts by file name."""

    name: str
    version: str
    architecture: str
    provenance: Mapping[str, str]
    licence: str
    intended_use: str
    card: str
    extra_files: Mapping[str, str] = field(default_factory=dict)


def cpu_session(model: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU; ``threads`` 0 lets it choose."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def probabilities(session: onnxruntime.InferenceSession, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images ``[N, 3, S, S]`` float32, preprocessed, to probabilities ``[N, 7]`` float32."""
    return np.asarray(session.run([PROBABILITIES], {INPUT: images})[0], np.float32)


def write_bundle(
    folder: Path,
    model_onnx: Path,
    golden_rgb: NDArray[np.uint8],
    text: BundleText,
    operating_point: OperatingPoint,
    *,
    contract: InputContract = IMAGENET,
    reference: ReferenceStatistics | None = None,
    tolerance: float = GOLDEN_TOLERANCE,
) -> Manifest:
    """Write a bundle; ``folder`` appears complete or not at all, and replaces a bundle that was there.

    The golden image's expected probabilities are those of ONNX Runtime on the CPU, through the file as it will lie in
    the bundle and the preprocessing that a device uses.

    Args:
        folder: ``<name>/<version>`` of the bundle.
        model_onnx: The exported graph; it is copied.
        golden_rgb: ``[H, W, 3]`` uint8 RGB, the self-test's picture.
        text: What the bundle says of itself.
        operating_point: The melanoma threshold and what it measured.
        contract: How a picture becomes the network's input.
        reference: What the training images looked like, for drift.
        tolerance: Largest allowed difference of a golden probability.

    Returns:
        The manifest as written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        shutil.copyfile(model_onnx, working / MODEL_NAME)
        if not cv2.imwrite(str(working / GOLDEN_NAME), cv2.cvtColor(golden_rgb, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{working / GOLDEN_NAME}: could not be written")
        for name, content in {CARD_NAME: text.card, **text.extra_files}.items():
            (working / name).write_text(content, encoding="utf-8")
        expected = probabilities(cpu_session(working / MODEL_NAME, threads=1), preprocess(golden_rgb, contract))[0]
        golden = Golden(
            image=GOLDEN_NAME, probabilities=tuple(round(float(p), 6) for p in expected), tolerance=tolerance
        )
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=text.name,
            version=text.version,
            architecture=text.architecture,
            classes=CLASSES,
            input=contract,
            files={path.name: _sha256(path) for path in sorted(working.iterdir())},
            operating_point=operating_point,
            golden=golden,
            reference_statistics=reference,
            provenance=dict(text.provenance),
            licence=text.licence,
            intended_use=text.intended_use,
        )
        (working / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _put_in_place(working, folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return manifest


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _put_in_place(working: Path, folder: Path) -> None:
    """Flush the new folder to disk and give it its name; an old one steps aside first, as rename demands."""
    working.chmod(0o755)  # mkdtemp makes it private
    for path in [*working.iterdir(), working]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if not folder.exists():
        working.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    try:
        folder.rename(aside / folder.name)
        try:
            working.rename(folder)
        except OSError:
            (aside / folder.name).rename(folder)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
