"""A bundle's ``manifest.json``: everything a device must know of a model before it may run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, field_validator

from engines.backend import BundleError
from engines.classes import CLASSES
from engines.files import read_small

MANIFEST_NAME: Final = "manifest.json"
SCHEMA_VERSION: Final = 1
MAX_BYTES: Final = 1 << 20
"""A manifest has a few thousand bytes; the bound keeps a made-up one from filling memory."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Triple = tuple[float, float, float]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputContract(_Part):
    """How a picture becomes the network's input; ``mean`` and ``std`` are of RGB in 0..1."""

    size: Annotated[int, Field(ge=32, le=1024)]
    crop: Literal["centre_square"]
    resize: Literal["area"]
    colour_order: Literal["RGB"]
    mean: Triple
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class OperatingPoint(_Part):
    """The melanoma risk from which a lesion is called suspicious, and what that choice measured where it was chosen."""

    threshold: Share
    sensitivity: Share | None = None
    specificity: Share | None = None
    """None where nobody measured it."""
    chosen_on: str


class Golden(_Part):
    """The self-test: an image of the bundle and the probabilities the model must give for it."""

    image: str
    probabilities: tuple[Share, ...]
    tolerance: Annotated[float, Field(gt=0.0, le=0.1)]
    """Largest allowed absolute difference of any probability."""

    @field_validator("probabilities")
    @classmethod
    def _one_for_each_class(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) != len(CLASSES) or abs(sum(value) - 1.0) > 1e-3:
            raise ValueError(f"{len(CLASSES)} probabilities that sum to 1 are due, one for each class")
        return value


class ReferenceStatistics(_Part):
    """How the model's training images looked, for drift: RGB in 0..1 after crop and resize, and the answers' shares."""

    images: Annotated[int, Field(ge=1)]
    mean_rgb: Triple
    std_rgb: Triple
    predicted_shares: tuple[Share, ...]
    mean_confidence: Share


class Manifest(_Part):
    """The whole manifest; unknown keys are refused."""

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    architecture: str
    classes: tuple[str, ...]
    input: InputContract
    files: dict[str, Sha256]
    operating_point: OperatingPoint
    golden: Golden
    reference_statistics: ReferenceStatistics | None = None
    provenance: dict[str, str]
    licence: str
    intended_use: str

    @field_validator("classes")
    @classmethod
    def _classes_in_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != CLASSES:
            raise ValueError(f"classes must be exactly {list(CLASSES)}, in this order")
        return value


def _check_schema_version(path: Path, text: bytes) -> None:
    """Say plainly that a bundle is of another time, before its unknown keys are complained of."""
    try:
        found = json.loads(text)["schema_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return  # the schema says what is wrong
    if found != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema_version: {found!r} is not known to this software, which reads {SCHEMA_VERSION};"
            " update the software, or install a bundle made for it"
        )


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``folder/manifest.json``, whoever wrote it: ``engines.bundle.load_bundle`` asks for a signature.

    Raises:
        BundleError: the file is missing, is not JSON, or breaks the schema; the message names file, key and value.
    """
    return parse_manifest(folder / MANIFEST_NAME, read_manifest_text(folder))


def read_manifest_text(folder: Path) -> bytes:
    """The bytes of ``folder/manifest.json``, which are what is signed.

    Raises:
        BundleError: the file is missing, cannot be read or is far too large.
    """
    path = folder / MANIFEST_NAME
    try:
        return read_small(path, MAX_BYTES)
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); point inference.bundle at a bundle folder, which holds it"
        ) from error


def parse_manifest(path: Path, text: bytes) -> Manifest:
    """Check a manifest's text; ``path`` is named in errors.

    Raises:
        BundleError: the text is not JSON, or breaks the schema; the message names file, key and value.
    """
    _check_schema_version(path, text)
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise BundleError(f"{path}: {key}: {first['msg']}; install the bundle again") from error
