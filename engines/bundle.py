"""A bundle on disk: its manifest's signature verified, every file hashed against the manifest, and then trusted."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np

from engines.backend import BundleError, Images
from engines.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest_text
from engines.preprocess import preprocess
from engines.trust.verifying import DEMO_TRUST, Signer, Trust, verify_signature

MODEL_NAME: Final = "model.onnx"
MODELS: Final = Path(__file__).resolve().parent / "models"
_REMEDY: Final = "install the bundle again"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. ``folder`` is absolute, so that it means the same in the worker process."""

    folder: Path
    manifest: Manifest
    model_sha256: str
    manifest_sha256: str = ""
    """Of ``manifest.json``: it names this very bundle, since the manifest holds every file's hash."""
    signer: Signer | None = None
    """None only of what :func:`read_unsigned_bundle` gave, and of what was never on disk."""

    @property
    def label(self) -> str:
        """``name/version``, as answers name the model."""
        return f"{self.manifest.name}/{self.manifest.version}"

    @property
    def model_path(self) -> Path:
        """The portable model."""
        return self.folder / MODEL_NAME

    @property
    def golden_path(self) -> Path:
        """The self-test's image."""
        return self.folder / self.manifest.golden.image


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_file(folder: Path, name: str, sha256: str, *, check_hash: bool) -> None:
    """One file of the manifest lies in the folder, has bytes, and is the file that was shipped."""
    path = folder / name
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts:
        raise BundleError(f"{folder / MANIFEST_NAME}: files: {name!r} is no path inside the bundle; {_REMEDY}")
    if not path.is_file():
        raise BundleError(f"{path}: the file is missing, but the manifest lists it; {_REMEDY}")
    if folder not in path.resolve().parents:
        raise BundleError(f"{path}: the file is a link that leaves the bundle's folder; {_REMEDY}")
    try:
        if path.stat().st_size == 0:
            raise BundleError(f"{path}: the file is empty; {_REMEDY}")
        if check_hash and (found := _sha256(path)) != sha256:
            raise BundleError(
                f"{path}: the file was changed or damaged (its sha256 begins {found[:12]}, the manifest's"
                f" {sha256[:12]}); {_REMEDY}"
            )
    except OSError as error:
        raise BundleError(f"{path}: the file cannot be read ({error.strerror}); {_REMEDY}") from error


def load_bundle(folder: Path, *, check_hashes: bool = True, trust: Trust = DEMO_TRUST) -> Bundle:
    """Verify a bundle's signature, read its manifest and check every file that it lists.

    Args:
        folder: the bundle's folder, ``.../<name>/<version>``.
        check_hashes: also read every file and compare its sha256 (about 0.3 s for 170 MB); only for callers that have
            just done so. The signature is verified in any case.
        trust: whose signature is believed; without it the demonstration key's alone.

    Raises:
        BundleError: naming the file, what is wrong and what to do.
    """
    folder = _checked_folder(folder)
    text = read_manifest_text(folder)
    signer = verify_signature(folder, trust, text)
    return replace(_read(folder, text, check_hashes=check_hashes), signer=signer)


def read_unsigned_bundle(folder: Path) -> Bundle:
    """What :func:`load_bundle` checks, but for the signature: for those who sign or show it. Never run what this gives.

    Raises:
        BundleError: naming the file, what is wrong and what to do.
    """
    folder = _checked_folder(folder)
    return _read(folder, read_manifest_text(folder), check_hashes=True)


def _checked_folder(folder: Path) -> Path:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "there is no such folder"
        raise BundleError(f"{folder}: {what}; point inference.bundle at a bundle folder, which holds {MANIFEST_NAME}")
    return folder.resolve()


def _read(folder: Path, text: bytes, *, check_hashes: bool) -> Bundle:
    manifest = parse_manifest(folder / MANIFEST_NAME, text)
    for needed in (MODEL_NAME, manifest.golden.image):
        if needed not in manifest.files:
            raise BundleError(f"{folder / MANIFEST_NAME}: files: {needed!r} is not listed; {_REMEDY}")
    for name, sha256 in manifest.files.items():
        _check_file(folder, name, sha256, check_hash=check_hashes)
    return Bundle(folder, manifest, manifest.files[MODEL_NAME], hashlib.sha256(text).hexdigest())


def golden_input(bundle: Bundle) -> Images:
    """The golden image as the network's input, ``[1, 3, S, S]``.

    Raises:
        BundleError: the image cannot be decoded.
    """
    path = bundle.golden_path
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        # Whatever orientation tag it has is not read: the self-test must see the same pixels everywhere.
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    except (OSError, cv2.error) as error:
        raise BundleError(f"{path}: the golden image cannot be read ({error}); {_REMEDY}") from error
    if bgr is None:
        raise BundleError(f"{path}: the golden image cannot be decoded; {_REMEDY}")
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return preprocess(rgb, bundle.manifest.input)


def demo_bundle_folder(models: Path = MODELS) -> Path:
    """The folder of the demonstration bundle's highest version, ``models/demo/<version>``.

    Raises:
        BundleError: there is none.
    """
    versions = [path.parent for path in (models / "demo").glob(f"*/{MANIFEST_NAME}")]
    versions = [path for path in versions if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    if not versions:
        raise BundleError(
            f"{models / 'demo'}: holds no bundle; install dermascan-edge again, get a whole checkout, or name a bundle"
        )
    return max(versions, key=lambda path: tuple(int(part) for part in path.name.split(".")))
