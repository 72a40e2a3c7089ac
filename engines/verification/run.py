"""Runs a verification: reference and engine, each in a worker process of its own, over the same pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from engines.backend import BackendSpec, EngineError, Images, Output
from engines.bundle import Bundle, golden_input
from engines.classes import CLASSES
from engines.golden import check_output
from engines.manifest import InputContract
from engines.preprocess import preprocess
from engines.process import WorkerProcess
from engines.verification.compare import Comparison, compare, joined
from engines.verification.gates import (
    Gate,
    Verdict,
    comparison_gates,
    labelled_gates,
    latency_gate,
    self_test_gates,
    unlabelled_gates,
    verdict,
)
from engines.verification.intervals import Figure, Floats, bootstrap
from engines.verification.labels import Picture, digest, read_rgb
from engines.verification.machine import hardware, versions
from engines.verification.record import PictureSet, Verification
from engines.verification.views import views

LOAD_TIMEOUT_S: Final = 300.0
RUN_TIMEOUT_S: Final = 120.0
_REFERENCE_BATCH: Final = 8
_WARM_UP: Final = 2
_GOLDEN_RUNS: Final = 20
"""Runs of the golden image that the latency is taken from where no pictures are given."""

_TIMED_PICTURES: Final = 100
"""Pictures that the latency is taken from where it is not the engine's own."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many pictures are done, and of how many."""
Ask = Callable[[Images], Output]


@dataclass(frozen=True)
class Order:
    """What to verify; ``about`` tells this engine from others, for the record."""

    bundle: Bundle
    engine: BackendSpec
    about: Mapping[str, str] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    folder: str = ""
    """Where the pictures come from, for the record."""
    drawn_from: int = 0
    seed: int = 0
    threads: int = 0
    timed: BackendSpec | None = None
    """What the latency is measured on, where that is not the engine itself (an emulation's time is nobody's)."""
    failure: str | None = None
    """Why the engine may not be run at all; the verdict is then made of this."""
    reference: BackendSpec | None = None
    """Stands in for the FP32 reference."""
    run_timeout_s: float = RUN_TIMEOUT_S
    """For one batch."""


class ReferenceFailed(Exception):
    """The FP32 reference itself could not be run on this machine: nothing was found out about the engine."""


@dataclass(frozen=True)
class _Answers:
    views: Output
    pictures: Output | None
    latencies_ms: Floats = field(default_factory=lambda: np.empty(0))


def reference_spec(bundle: Bundle, threads: int = 0) -> BackendSpec:
    """The FP32 reference: the portable model on the CPU without fused kernels."""
    return BackendSpec("reference", "engines.verification.sessions:open_graph", bundle.folder, {"threads": threads})


def verify(order: Order, progress: Progress = lambda *_: None) -> Verification:
    """Run reference and engine, compare them, and judge every gate.

    An engine that hangs, dies or gives numbers that cannot be right does not stop this: it is what the verdict says.

    Raises:
        ReferenceFailed: the reference could not be run.
        PicturesError: a picture cannot be read.
        BundleError: the golden image cannot be decoded.
    """
    started = time.monotonic()
    bundle = order.bundle
    found = _Found([], failure=order.failure) if order.failure else _find(order, progress)
    if found.failure is not None:
        why = f"the engine could not be run: {found.failure}"
        found = replace(found, gates=[*comparison_gates(None, why), *unlabelled_gates(why)])
    return Verification(
        verdict=Verdict.FAILED if found.failure else verdict(found.gates),
        bundle=bundle.label,
        model_sha256=bundle.model_sha256,
        manifest_sha256=bundle.manifest_sha256,
        engine={"backend": order.engine.name, **order.about},
        reference="model.onnx in ONNX Runtime on the CPU, FP32, basic optimisation",
        threshold=bundle.manifest.operating_point.threshold,
        gates=tuple(found.gates),
        self_test=found.self_test,
        pictures=found.pictures,
        picture_set=_picture_set(order),
        latency_p50_ms=found.latency_p50_ms,
        farthest_picture=order.pictures[found.pictures.farthest].path.name if found.pictures else None,
        failure=found.failure,
        versions=versions(),
        hardware=hardware(),
        verified_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        duration_s=round(time.monotonic() - started, 1),
    )


@dataclass(frozen=True)
class _Found:
    gates: list[Gate]
    self_test: Comparison | None = None
    pictures: Comparison | None = None
    latency_p50_ms: Figure | None = None
    failure: str | None = None


def _find(order: Order, progress: Progress) -> _Found:
    """Run reference and engine, one after the other."""
    try:
        with _worker(order.reference or reference_spec(order.bundle, order.threads), order) as ask:
            reference = _reference_answers(ask, order, progress)
    except EngineError as error:
        raise ReferenceFailed(
            f"{order.bundle.model_path}: the FP32 reference cannot be run on this machine, so that nothing can be"
            f" compared ({error})"
        ) from error
    try:
        with _worker(order.engine, order) as ask:
            engine = _engine_answers(ask, order, progress)
        if order.timed is not None:
            with _worker(order.timed, order) as ask:
                engine = replace(engine, latencies_ms=_latencies(ask, order, progress))
    except EngineError as error:
        return _Found([], failure=str(error))
    return _judge(order, reference, engine)


@contextmanager
def _worker(spec: BackendSpec, order: Order) -> Iterator[Ask]:
    """A worker process with its backend open, which ends with the block."""
    worker = WorkerProcess(spec)
    try:
        worker.wait_loaded(time.monotonic() + LOAD_TIMEOUT_S)
        yield _asker(worker, order)
    except BaseException:
        worker.kill()
        raise
    worker.finish()


def _asker(worker: WorkerProcess, order: Order) -> Ask:
    """Asks a worker, and judges what comes."""

    def ask(images: Images) -> Output:
        output = worker.run(images, time.monotonic() + order.run_timeout_s)
        check_output(output, len(images))
        return output

    return ask


def _reference_answers(ask: Ask, order: Order, progress: Progress) -> _Answers:
    contract = order.bundle.manifest.input
    of_views = ask(views(golden_input(order.bundle)))
    inputs = (preprocess(read_rgb(picture.path), contract) for picture in order.pictures)
    outputs: list[Output] = []
    done = 0
    while batch := list(islice(inputs, _REFERENCE_BATCH)):
        outputs.append(ask(np.concatenate(batch)))
        done += len(batch)
        progress("reference", done, len(order.pictures))
    return _Answers(of_views, joined(outputs) if outputs else None)


def _engine_answers(ask: Ask, order: Order, progress: Progress) -> _Answers:
    """Everything one picture at a time, as the agent asks; the views in one batch as well, where faults of another
    shape would show.
    """
    contract = order.bundle.manifest.input
    inputs = views(golden_input(order.bundle))
    together = ask(inputs)
    alone = joined([ask(inputs[i : i + 1]) for i in range(len(inputs))])
    paths = [picture.path for picture in order.pictures] or [order.bundle.golden_path] * _GOLDEN_RUNS
    outputs, latencies = _timed(ask, paths, contract, partial(progress, order.engine.name))
    return _Answers(joined([alone, together]), joined(outputs) if order.pictures else None, latencies)


def _timed(
    ask: Ask, paths: Sequence[Path], contract: InputContract, progress: Callable[[int, int], None]
) -> tuple[list[Output], Floats]:
    """Answer files one by one, and take the time of each from the file to the answer in ms, after a warm-up."""
    outputs, latencies = [], []
    for path in [*[paths[0]] * _WARM_UP, *paths]:
        began = time.perf_counter()
        output = ask(preprocess(read_rgb(path), contract))
        latencies.append((time.perf_counter() - began) * 1e3)
        outputs.append(output)
        progress(max(len(outputs) - _WARM_UP, 0), len(paths))
    return outputs[_WARM_UP:], np.array(latencies[_WARM_UP:])


def _latencies(ask: Ask, order: Order, progress: Progress) -> Floats:
    paths = [picture.path for picture in order.pictures[:_TIMED_PICTURES]] or [order.bundle.golden_path] * _GOLDEN_RUNS
    return _timed(ask, paths, order.bundle.manifest.input, partial(progress, "latency"))[1]


def _judge(order: Order, reference: _Answers, engine: _Answers) -> _Found:
    manifest = order.bundle.manifest
    threshold = manifest.operating_point.threshold
    median = bootstrap(engine.latencies_ms, lambda values: float(np.median(values)))
    self_test = compare(joined([reference.views, reference.views]), engine.views, threshold)
    gates = self_test_gates(self_test, manifest.golden.tolerance)
    if reference.pictures is None or engine.pictures is None:
        why = "no pictures given (--images)"
        note = _how_timed(order, f"golden image, {_GOLDEN_RUNS} times; smaller than a dermoscope's capture")
        gates += [*comparison_gates(None, why), latency_gate(engine.latencies_ms, note), *unlabelled_gates(why)]
        return _Found(gates, self_test, None, median)
    pictures = compare(reference.pictures, engine.pictures, threshold)
    note = _how_timed(order, f"from file to answer, {len(engine.latencies_ms)} pictures one by one")
    gates += [*comparison_gates(pictures), latency_gate(engine.latencies_ms, note)]
    labels = [picture.label for picture in order.pictures]
    if None in labels:
        gates += unlabelled_gates("no labels given (--labels)")
    else:
        gates += labelled_gates(reference.pictures, engine.pictures, np.array(labels, np.int64), threshold)
    return _Found(gates, self_test, pictures, median)


def _how_timed(order: Order, note: str) -> str:
    return note if order.timed is None else f"{note}, on {order.timed.name}"


def _picture_set(order: Order) -> PictureSet | None:
    if not order.pictures:
        return None
    labels = [picture.label for picture in order.pictures]
    counts = {name: labels.count(index) for index, name in enumerate(CLASSES) if index in labels}
    folder = "/".join(Path(order.folder).parts[-2:])  # no more of this machine's paths than tells the set
    drawn_from = max(order.drawn_from, len(order.pictures))
    return PictureSet(folder, len(order.pictures), drawn_from, order.seed, digest(order.pictures), counts)
