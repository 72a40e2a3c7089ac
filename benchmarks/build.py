"""One network, optimised for deployment in every way that this machine has: ``python -m benchmarks.build``.

Eager PyTorch, ``torch.compile``, a TorchScript trace, FP16, ONNX Runtime and TensorRT run the same weights on the same
pictures: latency of one picture, throughput in batches, and whether the answers are preserved. Machines drift, so the
ways are timed in turn within each round, and each ratio is of medians to eager PyTorch beside it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.build_ways import BATCH, Way, Work, ways
from benchmarks.pipeline import machine
from build.random_bundle import synthetic_lesion
from build.widen import original, widened_demo
from engines.backend import Images, Output
from engines.bundle import demo_bundle_folder, load_bundle
from engines.preprocess import preprocess
from engines.verification.compare import Comparison, compare, joined
from engines.verification.gates import AGREEMENT, Outcome, comparison_gates
from engines.verification.intervals import wilson
from engines.verification.labels import Picture, draw, find_pictures, read_rgb

SYNTHETIC = 64


@dataclass(frozen=True)
class Ready:
    """A way that is warm; times in ms, ``many`` of a batch of :data:`BATCH`."""

    way: Way
    work: Work
    prepare_s: float
    one: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Missing:
    """A way that this machine lacks."""

    way: Way
    why: str


@dataclass(frozen=True)
class Pictures:
    """What the answers are compared on; ``labels`` ``[N]`` where they are known."""

    images: Images
    labels: np.ndarray | None
    what: str


def read_pictures(folder: Path | None, labels: Path | None, limit: int) -> Pictures:
    """Pictures from a folder, or synthetic ones where none is given."""
    contract = load_bundle(demo_bundle_folder()).manifest.input
    if folder is None:
        made = [preprocess(synthetic_lesion(seed=seed), contract) for seed in range(SYNTHETIC)]
        return Pictures(np.concatenate(made), None, f"{SYNTHETIC} synthetic pictures")
    chosen: Sequence[Picture] = draw(find_pictures(folder, labels), limit)
    images = np.concatenate([preprocess(read_rgb(picture.path), contract) for picture in chosen])
    known = None if labels is None else np.array([picture.label for picture in chosen])
    return Pictures(images, known, f"{len(chosen)} pictures")


def time_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def prepare(way: Way, images: Images) -> Ready | Missing:
    """Get a way ready and warm at both batch sizes; a way that this machine lacks says why."""
    print(f"preparing {way.name} ...", file=sys.stderr)
    started = time.perf_counter()
    try:
        work = way.prepare()
        for size in (1, BATCH):
            work(images[:size])
    except Exception as error:  # noqa: BLE001 - whatever it lacks, the others are measured
        return Missing(way, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return Ready(way, work, time.perf_counter() - started)


def measure(running: Sequence[Ready], images: Images, rounds: int) -> None:
    """Time all ways in turn."""
    one, many = images[:1], images[:BATCH]
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
        for ready in running:
            ready.work(one)  # the caches are still full of the way before it
            ready.one.extend(time_ms(partial(ready.work, one)) for _ in range(3))
            ready.many.append(time_ms(partial(ready.work, many)))


def answers(ready: Ready, images: Images) -> Output:
    """What a way answers to all pictures."""
    print(f"answers of {ready.way.name} ...", file=sys.stderr)
    return joined([ready.work(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def preserved(comparison: Comparison) -> str:
    """Whether the answers are preserved, by the gates of ``engine verify``, and by how much they differ."""
    unmet = [gate.name for gate in comparison_gates(comparison) if gate.outcome is Outcome.UNMET]
    same = f"{comparison.agreeing} of {comparison.images} same class, Δp ≤ {comparison.difference_max:.1e}"
    flips = f", {comparison.flips} decisions changed" if comparison.flips else ""
    correlation = f", attention r {comparison.attention_correlation_lowest:.4f} at the lowest"
    return f"{'**no**' if unmet else 'yes'}: {same}{flips}{correlation}"


def accuracy(output: Output, labels: np.ndarray | None) -> str:
    """Accuracy with Wilson's interval, where labels are known."""
    if labels is None:
        return "not measured"
    figure = wilson(int((output.probabilities.argmax(axis=1) == labels).sum()), len(labels))
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"


def row(ready: Ready, base: Ready, outputs: tuple[Output, Output], pictures: Pictures, threshold: float) -> str:
    """One way's line, beside the first's; ``outputs`` are its own answers and the first's."""
    p50, p95 = np.percentile(ready.one, [50, 95])
    many, base_many = float(np.median(ready.many)), float(np.median(base.many))
    same = "the reference" if ready is base else preserved(compare(outputs[1], outputs[0], threshold))
    cells = (
        ready.way.name,
        f"{ready.prepare_s:.1f} s",
        f"{p50:.1f} / {p95:.1f} ms",
        f"{p50 / np.median(base.one):.2f}",
        f"{BATCH * 1e3 / many:.1f} images/s",
        f"{base_many / many:.2f}",
        same,
        accuracy(outputs[0], pictures.labels),
    )
    return f"| {' | '.join(cells)} |"


def table(found: Sequence[Ready | Missing], base: Ready, pictures: Pictures, threshold: float) -> str:
    """All figures as Markdown."""
    one_by_one = "one picture, p50 / p95 | to eager"
    lines = [
        f"| way | getting ready | {one_by_one} | batches of {BATCH} | to eager | answers preserved | accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = answers(base, pictures.images)
    for one in found:
        if isinstance(one, Missing):
            lines.append(f"| {one.way.name} | not measured: {one.why} | | | | | | |")
        else:
            own = first if one is base else answers(one, pictures.images)
            lines.append(row(one, base, (own, first), pictures, threshold))
    return "\n".join(lines)


def main() -> int:
    """Measure every way and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("vit_b_16", "vit_ti_16"), default="vit_b_16")
    parser.add_argument("--rounds", type=int, default=10, help="each: 3 single pictures and a batch (default 10)")
    parser.add_argument("--images", type=Path, help="folder of pictures (default: synthetic ones)")
    parser.add_argument("--labels", type=Path, help="CSV image,label of those pictures")
    parser.add_argument("--limit", type=int, default=200, help="only so many of them (default 200)")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only ways whose name contains one of these words")
    parser.add_argument("--cache", type=Path, help="where TensorRT's compiled plans lie")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # torch's own words about what is deprecated in it
    logging.getLogger("torch").setLevel(logging.ERROR)
    demo = demo_bundle_folder()
    print(f"making {arguments.model} from the demonstration's weights ...", file=sys.stderr)
    model = widened_demo() if arguments.model == "vit_b_16" else original(demo / "model.onnx")
    pictures = read_pictures(arguments.images, arguments.labels, arguments.limit)
    with tempfile.TemporaryDirectory() as folder:
        chosen = ways(model, Path(folder), arguments.cache)
        if arguments.only:
            chosen = [chosen[0], *(w for w in chosen[1:] if any(word in w.name for word in arguments.only))]
        found = [prepare(way, pictures.images) for way in chosen]
        running = [one for one in found if isinstance(one, Ready)]
        measure(running, pictures.images, arguments.rounds)
        lines = table(found, running[0], pictures, load_bundle(demo).manifest.operating_point.threshold)
    print(f"{machine()}, PyTorch {torch.__version__}; {arguments.model}, {pictures.what}, {arguments.rounds} rounds\n")
    print(lines)
    print(f"\nAnswers count as preserved at ≥ {AGREEMENT:.1%} same class, no decision changed, attention r ≥ 0.999.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
