"""The check at an engine's first load on a device: a TensorRT that miscompiles the network is caught here (F14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from engines.backend import Backend, BackendFailed, Output
from engines.bundle import Bundle, golden_input
from engines.files import read_small, write_atomically
from engines.golden import check_output
from engines.verification.compare import Comparison, compare, joined
from engines.verification.gates import Outcome, self_test_gates
from engines.verification.machine import versions
from engines.verification.record import MAX_BYTES
from engines.verification.views import views


@dataclass(frozen=True)
class FirstLoad:
    """What the check found; plain data, so that it can be kept beside the plan."""

    passed: bool
    reasons: tuple[str, ...]
    """Why it did not pass, in sentences; empty where it did."""
    model_sha256: str
    about: Mapping[str, str]
    """What tells this engine from others: plan key, GPU, driver, TensorRT's version."""
    comparison: Comparison | None
    """None where the engine gave no numbers to compare."""
    versions: Mapping[str, str] = field(default_factory=dict)
    checked_at: str = ""


_ADAPTER = TypeAdapter(FirstLoad)


def first_load(
    bundle: Bundle,
    engine: Backend,
    *,
    about: Mapping[str, str] | None = None,
    note: Path | None = None,
    reference: Backend | None = None,
    threads: int = 0,
) -> FirstLoad:
    """Compare a freshly opened engine with the FP32 reference on views of the golden image.

    Runs in the worker process that opened the engine: the reference (ONNX Runtime on the CPU) is opened beside it,
    asked for 16 views, and closed again. The engine answers them one by one and as one batch.

    Args:
        bundle: the checked bundle that the engine was compiled from.
        engine: the opened engine; it stays open.
        about: what tells this engine from others, for the note.
        note: file to write the result to, atomically; None writes nothing.
        reference: stands in for the reference, which is then not opened here and stays open.
        threads: the reference's compute threads; 0 takes one for each core.

    Returns:
        The result; an engine that raises or gives numbers that cannot be right has not passed.

    Raises:
        BundleError: the reference or the golden image cannot be opened.
        OSError: the note cannot be written.
    """
    inputs = views(golden_input(bundle))
    expected = _reference_answers(bundle, inputs, reference, threads)
    reasons: list[str] = []
    comparison = None
    try:
        alone = [_checked(engine.run(inputs[i : i + 1]), 1) for i in range(len(inputs))]
        answers = joined([*alone, _checked(engine.run(inputs), len(inputs))])
    except Exception as error:  # noqa: BLE001 - whatever an engine raises, it may not answer
        reasons.append(f"the engine failed on a view of the golden image ({type(error).__name__}: {error})")
    else:
        manifest = bundle.manifest
        comparison = compare(joined([expected, expected]), answers, manifest.operating_point.threshold)
        reasons += [
            f"{gate.name}: {gate.figure.value:.4g} where {gate.demand} is due ({gate.note})"
            for gate in self_test_gates(comparison, manifest.golden.tolerance)
            if gate.outcome is not Outcome.MET and gate.figure is not None
        ]
    result = FirstLoad(
        passed=not reasons,
        reasons=tuple(reasons),
        model_sha256=bundle.model_sha256,
        about=dict(about or {}),
        comparison=comparison,
        versions=versions(),
        checked_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    if note is not None:
        write_atomically(note, _ADAPTER.dump_json(result, indent=2) + b"\n")
    return result


def passed_before(note: Path, bundle: Bundle, about: Mapping[str, str] | None = None) -> bool:
    """Whether this very engine passed on an earlier load: same model, same ``about``, same software versions.

    A note that is missing, damaged or of anything else says no: the check is then simply made again.
    """
    try:
        found = _ADAPTER.validate_json(read_small(note, MAX_BYTES))
    except (OSError, ValidationError):
        return False
    same = found.model_sha256 == bundle.model_sha256 and found.about == dict(about or {})
    return found.passed and same and found.versions == versions()


def _checked(output: Output, images: int) -> Output:
    check_output(output, images)
    return output


def _reference_answers(bundle: Bundle, inputs: np.ndarray, given: Backend | None, threads: int) -> Output:
    if given is not None:
        return _checked(given.run(inputs), len(inputs))
    from engines.verification.sessions import open_graph  # ONNX Runtime: only in the worker process

    reference = open_graph(bundle.folder, threads=threads)
    try:
        return _checked(reference.run(inputs), len(inputs))
    except BackendFailed as error:
        raise BackendFailed(f"the FP32 reference: {error}") from error
    finally:
        reference.close()
