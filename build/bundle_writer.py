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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from build.export import INPUT, PROBABILITIES
from engines.backend import BundleError
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
from engines.trust.keys import demo_key
from engines.trust.signing import sign_bundle

MODEL_NAME: Final = "model.onnx"
FP16_NAME: Final = "model.fp16.onnx"
"""The strongly typed FP16 graph, which engines are compiled from where it is there."""
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
    fp16_onnx: Path | None = None,
    signing_key: Ed25519PrivateKey | None = None,
    signed: bool = True,
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
        fp16_onnx: The same model as a strongly typed FP16 graph (``build.fp16``); it is copied.
        signing_key: Who vouches for the bundle; None: the demonstration key, until ``engine sign`` replaces it.
        signed: False leaves the bundle without a signature, so that nothing runs it before somebody has signed.

    Returns:
        The manifest as written.

    Raises:
        BundleError: ``folder`` holds something that is no bundle.
        OSError: the bundle could not be written; what was there before is untouched.
    """
    check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        shutil.copyfile(model_onnx, working / MODEL_NAME)
        if fp16_onnx is not None:
            shutil.copyfile(fp16_onnx, working / FP16_NAME)
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
        if signed:
            sign_bundle(working, signing_key or demo_key())
        _put_in_place(working, folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return manifest


def check_place(folder: Path) -> None:
    """A bundle may be written where nothing is, into an empty folder, or over another bundle.

    Raises:
        BundleError: the path is a file, or a folder of something else, which replacing would destroy.
    """
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder}: is a file; name a folder for the bundle, .../NAME/VERSION")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST_NAME).is_file():
        raise BundleError(f"{folder}: holds files that are no bundle; name a new folder, .../NAME/VERSION")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
