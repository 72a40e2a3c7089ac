"""The engine on the card against its peers and its floor, in one run: ``python -m benchmarks.gpu``.

Needs an NVIDIA GPU, TensorRT 10 or newer, pycuda, and a torch that uses CUDA; cuda-bindings for graph replay. What is
missing is said, and its rows say "not measured". Cards and drivers drift, so the ways are timed in turn: some runs of
each, then again. The weights are random (the answers mean nothing, the speed is real), the same for all ways.

Exit status: 0 measured, 3 there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines.tensorrt.gpu import EXIT_NO_GPU, Gpu, NoGpu, probe
from engines.tensorrt.versions import NoTensorRT, find_tensorrt

GFLOP = 35.1
"""Of one forward pass of the ViT-B/16 at 224 x 224, a multiplication and an addition counted as two."""
WEIGHTS_MB = 172.0
"""What one forward pass must read at least, in FP16, whatever the batch."""
BATCHES = (1, 4, 8, 16)
NOT_MEASURED = "not measured"


@dataclass
class Timing:
    """One way at one batch size; all in milliseconds."""

    engine: list[float] = field(default_factory=list)
    call: list[float] = field(default_factory=list)
    off: float | None = None
    """Largest difference of a probability from the FP32 model's."""


@dataclass
class Results:
    """Everything that was measured; what is missing was not."""

    machine: str
    notes: list[str] = field(default_factory=list)
    timings: dict[str, dict[int, Timing]] = field(default_factory=dict)
    peak_tflops: float | None = None
    peak_gb_s: float | None = None
    agent: list[tuple[str, str]] = field(default_factory=list)

    def floor_ms(self, batch: int) -> float | None:
        """The least that this card can need: its arithmetic or its memory at their measured best."""
        if self.peak_tflops is None or self.peak_gb_s is None:
            return None
        return max(GFLOP * batch / self.peak_tflops, WEIGHTS_MB / self.peak_gb_s)


def time_ways(
    ways: Mapping[str, Callable[[int], Any]],
    right: Callable[[Any], Any] | None,
    batches: Sequence[int],
    results: Results,
    *,
    size: int,
    rounds: int,
    runs: int,
) -> None:
    """Time every way at every batch size, in turn; a way that fails is left out, and the notes say why."""
    for batch in batches:
        images = np.random.default_rng(batch).standard_normal((batch, 3, size, size), dtype=np.float32)
        expected = right(images) if right else None
        ready = {}
        for name, way in ways.items():
            print(f"  batch {batch}: {name} ...", file=sys.stderr)
            timing = Timing()
            try:
                ready[name] = way(batch)
                answer = ready[name].call(images)
            except Exception as error:  # noqa: BLE001 - one peer that does not run here ends nothing else
                results.notes.append(
                    f"{name}, batch {batch}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
                )
                ready.pop(name, None)
                continue
            if expected is not None:
                timing.off = float(np.abs(answer - expected).max())
            results.timings.setdefault(name, {})[batch] = timing
        for _ in range(rounds):
            for name, way_ready in ready.items():
                timing = results.timings[name][batch]
                timing.engine += [way_ready.engine_ms() for _ in range(runs)]
                for _ in range(runs):
                    started = time.perf_counter()
                    way_ready.call(images)
                    timing.call.append((time.perf_counter() - started) * 1e3)


def measure_agent(bundle: Path, folder: Path, rounds: int) -> list[tuple[str, str]]:
    """The whole agent with the ladder ``tensorrt, cpu``: from a file's close to the committed answer."""
    from agent.config import load_config
    from agent.daemon import Daemon
    from benchmarks.captures import JPEG_12MP, JPEG_XGA, distinct, write
    from benchmarks.pipeline import Commits
    from benchmarks.process import write_config

    os.environ["CACHE_DIRECTORY"] = str(folder / "cache")
    config = write_config(folder, bundle, 1)
    config.write_text(config.read_text().replace('ladder = ["cpu"]', 'ladder = ["tensorrt", "cpu"]'))
    commits, rows = Commits(), []
    daemon = Daemon(load_config(config), on_finished=commits)
    started = time.monotonic()
    daemon.start()
    try:
        if not daemon.ladder.rungs[0].runner.wait_ready(3600):
            return [("agent", f"{NOT_MEASURED}: {daemon.ladder.rungs[0].runner.last_failure}")]
        rows.append(("first start → engine compiled, verified and ready", f"{time.monotonic() - started:.1f} s"))
        for kind in (JPEG_XGA, JPEG_12MP):
            files, values, backends = distinct(kind), [], set()
            for number in range(rounds * 3):
                name = f"{kind.width}-{number}{kind.suffix}"
                closed = write(folder / "scope-0", name, next(files))
                (finished,) = commits.wait([name])
                values.append((finished.committed - closed) * 1e3)
                if finished.answer is not None:
                    backends.add(finished.answer.backend)
                time.sleep(0.05)
            percentiles = " / ".join(f"{value:.1f} ms" for value in np.percentile(values, [50, 95, 99]))
            rows.append(
                (f"file closed → committed, {kind.name} (p50 / p95 / p99), by {'+'.join(backends)}", percentiles)
            )
        files, names = distinct(JPEG_XGA), [f"burst-{number}.jpg" for number in range(50)]
        waiting = [(name, next(files)) for name in names]
        started = time.monotonic()
        for name, data in waiting:
            write(folder / "scope-0", name, data)
        last = max(finished.committed for finished in commits.wait(names))
        rows.append(("burst of 50 captures (1024×768 JPEG)", f"{50 / (last - started):.0f} /s"))
    finally:
        daemon.stop()
    return rows


def write_random_bundle(bundle: Path, graphs: Path) -> None:
    """A bundle of the graphs ``model.onnx`` and ``model.fp16.onnx`` that lie in ``graphs``."""
    from build.bundle_writer import BundleText, write_bundle
    from build.random_bundle import MEANINGLESS, synthetic_lesion
    from engines.manifest import OperatingPoint

    text = BundleText(
        name="random-vit-b-16",
        version="0.0.0",
        architecture="vit_b_16",
        provenance={"weights": "random", "golden_image": "synthetic"},
        licence="Apache-2.0",
        intended_use=MEANINGLESS,
        card=f"# Random ViT-B/16\n\n{MEANINGLESS}\n",
    )
    point = OperatingPoint(threshold=0.5, chosen_on="nothing: random weights")
    half = graphs / "model.fp16.onnx"
    write_bundle(bundle, graphs / "model.onnx", synthetic_lesion(), text, point, fp16_onnx=half)


def _cell(results: Results, timing: Timing | None, batch: int) -> str:
    if timing is None or not timing.engine:
        return NOT_MEASURED
    engine, floor = float(np.median(timing.engine)), results.floor_ms(batch)
    return f"{engine:.3f} ms ({1e3 * batch / engine:.0f} /s{f', {engine / floor:.2f} × floor' if floor else ''})"


def table(results: Results, batches: Sequence[int]) -> str:
    """Everything as Markdown."""
    head = " | ".join(f"batch {batch}" for batch in batches)
    rule = "|---" * (len(batches) + 1) + "|"
    floors = [results.floor_ms(batch) for batch in batches]
    lines = [results.machine, "", f"| engine on the GPU, median | {head} |", rule]
    lines.append("| floor | " + " | ".join(f"{ms:.3f} ms" if ms else NOT_MEASURED for ms in floors) + " |")
    for name, by_batch in results.timings.items():
        lines.append(f"| {name} | " + " | ".join(_cell(results, by_batch.get(b), b) for b in batches) + " |")
    lines += ["", f"| host to host, p50 / p99; largest Δ probability | {head} |", rule]
    for name, by_batch in results.timings.items():
        cells = []
        for batch in batches:
            timing = by_batch.get(batch)
            if timing is None or not timing.call:
                cells.append(NOT_MEASURED)
                continue
            p50, p99 = np.percentile(timing.call, [50, 99])
            cells.append(f"{p50:.2f} / {p99:.2f} ms" + ("" if timing.off is None else f"; {timing.off:.1e}"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if results.agent:
        lines += [
            "",
            "| the agent, ladder tensorrt → cpu | |",
            "|---|---|",
            *(f"| {a} | {b} |" for a, b in results.agent),
        ]
    if results.peak_tflops is not None:
        best = f"{results.peak_tflops:.0f} TFLOP/s (FP16 product, 8192³) and {results.peak_gb_s:.0f} GB/s (copy)"
        lines += ["", f"Floor: the larger of {GFLOP} GFLOP a picture and {WEIGHTS_MB:.0f} MB a run, at {best}."]
    return "\n".join([*lines, *(f"\n- {note}" for note in results.notes)])


def _machine(gpu: Gpu) -> str:
    major, minor = gpu.compute_capability
    return f"{gpu.name} (compute capability {major}.{minor}, {gpu.memory_bytes / 2**30:.0f} GiB), driver {gpu.driver}"


def measure(gpu: Gpu, arguments: argparse.Namespace, folder: Path) -> Results:
    """Everything that can be measured with what is installed."""
    import torch

    from benchmarks.gpu.torch_ways import TorchWays, peak_gb_s, peak_tflops
    from build.export import export_onnx
    from build.fp16 import export_fp16
    from build.random_bundle import random_model
    from build.vit import CONFIGS

    results = Results(_machine(gpu))
    config = CONFIGS["vit_b_16"]
    model = random_model(config)
    ways: dict[str, Callable[[int], Any]] = {}
    right = None
    if torch.cuda.is_available():
        results.machine += f"; PyTorch {torch.__version__}"
        results.peak_tflops, results.peak_gb_s = peak_tflops(), peak_gb_s()
        peers = TorchWays(model)
        ways |= peers.all()
        right = peers.right
    else:
        results.notes.append("PyTorch's rows and the floor: this torch does not use CUDA")
    opened: list[Any] = []
    try:
        tensorrt = find_tensorrt()
        results.machine += f"; {tensorrt.label}"
        from benchmarks.gpu.tensorrt_ways import TensorRtWays, build

        single, half = folder / "model.onnx", folder / "model.fp16.onnx"
        export_onnx(model, single, fp16_weights=False)
        export_fp16(single, half)
        for attention, label in ((True, "TensorRT FP16"), (False, "TensorRT FP16 without attention output")):
            print(f"compiling: {label} ...", file=sys.stderr)
            top = max(arguments.batches)
            built = build(tensorrt, gpu, half, max_batch=top, size=config.image_size, attention=attention)
            results.notes.append(f"{label}: compiled in {built.seconds:.0f} s, {len(built.plan) / 1e6:.0f} MB")
            opened.append(TensorRtWays(tensorrt, gpu, built, arguments.batches))
            ways |= opened[-1].all(label)
        if not any("graph replay" in name for name in ways):
            results.notes.append("graph replay: cuda-bindings is not installed")
    except (NoTensorRT, NoGpu, RuntimeError, ImportError) as error:
        results.notes.append(f"TensorRT's rows: {error}")
    time_ways(
        ways,
        right,
        arguments.batches,
        results,
        size=config.image_size,
        rounds=arguments.rounds,
        runs=arguments.runs,
    )
    for one in opened:
        one.close()
    if not arguments.without_agent and opened:
        print("the agent: compiling, verifying, answering ...", file=sys.stderr)
        write_random_bundle(folder / "bundle", folder)
        results.agent = measure_agent(folder / "bundle", folder, arguments.rounds)
    return results


def main() -> int:
    """Measure what can be measured and print one table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=10, help="how often the ways take turns (default 10)")
    parser.add_argument("--runs", type=int, default=30, help="runs of a way in each turn (default 30)")
    parser.add_argument("--without-agent", action="store_true", help="measure the engines alone")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    try:
        gpu = probe()
    except NoGpu as error:
        print(f"{NOT_MEASURED}: {error}")
        return EXIT_NO_GPU
    with tempfile.TemporaryDirectory() as folder:
        text = table(measure(gpu, arguments, Path(folder)), arguments.batches)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return 0
