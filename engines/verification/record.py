"""``verification.json``: what a verification found, on which machine, of which bundle; written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from engines.files import read_small, write_atomically
from engines.verification.compare import Comparison
from engines.verification.gates import Gate, Verdict
from engines.verification.intervals import Figure

VERIFICATION_NAME: Final = "verification.json"
SCHEMA_VERSION: Final = 1
MAX_BYTES: Final = 1 << 20
"""A record has a few thousand bytes; the bound keeps a made-up one from filling memory."""


class RecordError(Exception):
    """A record cannot be written or read; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class PictureSet:
    """What the pictures were, so that the figures can be traced and taken again."""

    folder: str
    count: int
    of: int
    """Pictures that there were to draw from."""
    seed: int
    sha256: str
    """Of names, contents and labels (``engines.verification.labels.digest``)."""
    class_counts: Mapping[str, int]
    """Labelled pictures by class; empty without labels."""


@dataclass(frozen=True)
class Verification:
    """One verification of one bundle by one backend on one machine."""

    verdict: Verdict
    bundle: str
    """``name/version``."""
    model_sha256: str
    manifest_sha256: str
    engine: Mapping[str, str]
    """``backend``, and what else tells this engine from others (file, plan, precision)."""
    reference: str
    threshold: float
    gates: tuple[Gate, ...]
    self_test: Comparison | None
    """On views of the golden image; None where the engine could not be run."""
    pictures: Comparison | None
    picture_set: PictureSet | None
    latency_p50_ms: Figure | None
    farthest_picture: str | None
    """The picture whose probabilities differ most."""
    failure: str | None
    """Why the engine could not be run to the end, in one sentence."""
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    verified_at: str
    """UTC, ISO 8601; the machine's own clock, which may be wrong."""
    duration_s: float
    schema_version: int = field(default=SCHEMA_VERSION)


_ADAPTER: Final = TypeAdapter(Verification)


def to_json(verification: Verification) -> str:
    """The record as JSON text."""
    return _ADAPTER.dump_json(verification, indent=2).decode() + "\n"


def read_record(path: Path) -> Verification:
    """Read a record.

    Raises:
        RecordError: there is none, or it is none of this software's.
    """
    try:
        return _ADAPTER.validate_json(read_small(path, MAX_BYTES))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); run: dermascan engine verify") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise RecordError(f"{path}: {key}: {first['msg']}; run again: dermascan engine verify") from error


def check_writable(path: Path) -> None:
    """Find out before hours of work that a record cannot be written.

    Raises:
        RecordError: the folder is missing or read-only.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


def write_record(path: Path, verification: Verification) -> None:
    """Write a record, whole or not at all.

    Raises:
        RecordError: the folder is read-only, missing or full; what was there stays.
    """
    try:
        write_atomically(path, to_json(verification).encode())
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> RecordError:
    return RecordError(f"{path}: cannot be written ({error.strerror}); name another file with --out")
