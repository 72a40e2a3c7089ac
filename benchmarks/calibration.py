"""How true and how fast the calibration is: ``python -m benchmarks.calibration`` prints the tables of calibration.md.

The photographs are found as the tests find them (DERMASCAN_TEST_DATA, else ``../shared/data`` beside the checkout).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.chart import ChartNotFound, Patches, detect_chart
from calibration.colour import delta_e_2000, linear_to_srgb, srgb_to_lab, srgb_to_linear
from calibration.correction.apply import Corrector, reference_apply
from calibration.correction.colour_model import ColourModel
from calibration.correction.figures import Figures
from calibration.correction.fit import Shape, examine, fit
from calibration.correction.flatfield import GainMap, centres
from calibration.correction.gates import Judgement, judge
from calibration.drift import WINDOW, Observation, State, Watch, observe
from calibration.references import COLORCHECKER24
from calibration.visit.pictures import read_picture

RGB = NDArray[np.uint8]

OTHER_LAMP = (1.3, 1.0, 0.5)
"""Linear gains of a lamp of about 3700 K where the profile was made in daylight."""
XGA, TWELVE_MP, SMALL = (768, 1024), (3000, 4000), 224
GOOD = "plantcv_classic.png"


def data_folder() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("DERMASCAN_TEST_DATA", beside))


def read(path: Path) -> RGB:
    """As the commands and the agent see it: an embedded colour profile is converted to sRGB."""
    return read_picture(path).rgb


def table(*heads: str) -> None:
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")


def row(*cells: object) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def three(figures: Figures) -> str:
    return f"{figures.mean:.2f} / {figures.p95:.2f} / {figures.max:.2f}"


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """The median of ``rounds`` calls."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def charts(folder: Path) -> dict[str, Patches]:
    """Patches of every photograph that shows a whole chart; says why of the others."""
    table(
        "photograph", "before", "plain 3x3, left out", "chosen model", "in-sample", "left out", "another lamp", "gate"
    )
    found = {}
    for path in sorted((folder / "colorchecker").iterdir()):
        try:
            patches = detect_chart(read(path)).patches
        except ChartNotFound as refusal:
            row(path.name, *[""] * 6, f"refused: {refusal}")
            continue
        found[path.name] = patches
        result = fit(patches.linear, COLORCHECKER24)
        plain = next(figures for shape, figures in result.tried if shape == Shape())
        lamp = examine(result.model, patches.linear * OTHER_LAMP, COLORCHECKER24, even_light=result.shape.tilt)
        row(
            path.name,
            f"{result.before.figures.mean:.1f}",
            three(plain),
            result.shape,
            three(result.in_sample),
            f"**{three(result.leave_one_out)}**",
            f"{lamp.figures.mean:.1f}",
            _gate(judge(result, patches)),
        )
    print("\nCIEDE2000: mean / 95th percentile / largest of the 24 patches.")
    return found


def _gate(judgement: Judgement) -> str:
    """The outcome and, where it is no pass, the first reason's first words."""
    outcome = judgement.outcome.value
    return outcome if not judgement.reasons else f"{outcome}: {judgement.reasons[0].split(';')[0]}"


def vignette(height: int, width: int) -> GainMap:
    down, across = (centres(side) - 0.5 for side in (48, 64))
    radius = down[:, None] ** 2 + across[None] ** 2
    gain = np.stack([0.95 + share * radius for share in (1.3, 1.2, 1.1)], axis=-1)
    return GainMap(gain.astype(np.float32), (height, width))


def dear_corrector() -> Corrector:
    """A correction of the dearest kind, a root polynomial with a gain map, to measure what correcting costs."""
    coefficients = np.vstack([0.85 * np.eye(3) + 0.05, np.full((3, 3), 0.01)])
    return Corrector(ColourModel("root_polynomial_2", coefficients), vignette(*XGA))


def models(patches: Patches) -> dict[str, ColourModel]:
    shapes = {
        "3x3 matrix": Shape(),
        "matrix with tone curve": Shape(tone=True),
        "root polynomial": Shape("root_polynomial_2"),
    }
    return {name: fit(patches.linear, COLORCHECKER24, shapes=[shape]).model for name, shape in shapes.items()}


def costs(patches: Patches, picture: RGB, rounds: int) -> None:
    xga = np.asarray(cv2.resize(picture, XGA[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    large = np.asarray(cv2.resize(picture, TWELVE_MP[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    small = np.asarray(cv2.resize(picture, (SMALL, SMALL), interpolation=cv2.INTER_AREA), np.uint8)
    table("correction", "1024x768", "4000x3000", "224x224", "ΔE2000 from float64, mean / largest")
    for name, model in models(patches).items():
        for gain in (None, vignette(*XGA)):
            corrector = Corrector(model, gain)
            exact = reference_apply(model, xga, gain)
            off = delta_e_2000(srgb_to_lab(corrector.full(xga)), srgb_to_lab(exact))
            row(
                name + (", gain map" if gain else ""),
                f"{milliseconds(partial(corrector.full, xga), 10 * rounds):.1f} ms",
                f"{milliseconds(partial(corrector.full, large), rounds):.0f} ms",
                f"{milliseconds(partial(corrector.small, small), 50 * rounds):.2f} ms",
                f"{off.mean():.2f} / {off.max():.2f}",
            )
    exact = reference_apply(models(patches)["3x3 matrix"], xga)
    off = delta_e_2000(srgb_to_lab(np.rint(exact * 255) / 255), srgb_to_lab(exact))
    print(f"\nRounding the exact result to 8 bits alone makes {off.mean():.2f} / {off.max():.2f}.")


def shortcut(patches: Patches, folder: Path) -> None:
    """Correcting the network's 224 x 224 against correcting the whole picture in float64 and then shrinking it."""
    table("correction after shrinking", "ΔE2000 from before, mean", "99th percentile", "largest")
    for name, model in models(patches).items():
        differences = []
        for path in sorted((folder / "isic_fullsize").glob("*.jp*g")):
            rgb = read(path)
            height, width = rgb.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            square = (slice(top, top + side), slice(left, left + side))
            gain = vignette(height, width)
            exact = np.ascontiguousarray(reference_apply(model, rgb, gain)[square])
            before = cv2.resize(exact, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
            small = np.asarray(cv2.resize(rgb[square], (SMALL, SMALL), interpolation=cv2.INTER_AREA), np.uint8)
            region = (top / height, left / width, side / height, side / width)
            after = Corrector(model, gain).small(small, region)
            differences.append(delta_e_2000(srgb_to_lab(after), srgb_to_lab(np.clip(before, 0.0, 1.0))))
        off = np.array(differences)
        row(name + ", gain map", f"{off.mean():.2f}", f"{np.percentile(off, 99):.2f}", f"{off.max():.2f}")


def in_light(rgb: RGB, gains: tuple[float, float, float]) -> RGB:
    levels = srgb_to_linear(np.arange(256) / 255.0)[:, None] * gains
    tables = np.rint(np.clip(linear_to_srgb(levels), 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, tables[:, None, :]), np.uint8)


def watched(observations: Iterator[Observation], watch: Watch) -> tuple[Watch, int | None]:
    """The watch after these, and after how many it first said that the colours had drifted."""
    first = None
    for number, one in enumerate(observations, start=1):
        watch = watch.after(one)
        if first is None and watch.state is State.DRIFTED:
            first = number
    return watch, first


def drift(folder: Path, count: int) -> None:
    paths = sorted((folder / "ham10000").rglob("*.jpg"))[:count]
    pictures = [read(path) for path in paths]
    cost = milliseconds(lambda: [observe(picture) for picture in pictures[:100]], 3) / 100
    steady = [one for one in map(observe, pictures) if one is not None]
    alarms = 0
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(steady))
        _, first = watched((steady[index] for index in order), Watch())
        alarms += first is not None
    table("lamp's gains, from one capture to the next", "said after", "light", "skin")
    row("none: ten shuffled streams", f"{alarms} of 10 alarmed in {len(steady)} captures each", "", "")
    half = len(pictures) // 2
    commissioned, _ = watched(iter(steady[:WINDOW]), Watch())
    for gains in ((1.05, 1.0, 0.95), (1.1, 1.0, 0.9), (1.2, 1.0, 0.8), (0.8, 0.8, 0.8)):
        shifted = (observe(in_light(picture, gains)) for picture in pictures[half : half + 3 * WINDOW])
        watch, first = watched((one for one in shifted if one is not None), commissioned)
        told = f"{first} captures" if first else "not said"
        if shift := watch.shift():
            moved = (
                f"{shift.light:.1f} (limit {shift.light_limit:.1f})",
                f"{shift.skin:.1f} (limit {shift.skin_limit:.1f})",
            )
            row(" / ".join(f"{gain:g}" for gain in gains), told, *moved)
    after = milliseconds(lambda: watch.after(steady[0]), 50)
    print(f"\nOne capture costs {cost:.2f} ms to look at and {after:.2f} ms to take into the watch.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="repetitions of the longest measurement")
    parser.add_argument("--captures", type=int, default=1500, help="captures for the watch without a chart")
    arguments = parser.parse_args()
    folder = data_folder()
    if not (folder / "colorchecker").is_dir():
        parser.error(f"the photographs are not at {folder}; set DERMASCAN_TEST_DATA to their folder")
    cv2.setNumThreads(1)  # as the agent does
    print(f"{platform.processor() or platform.machine()}, one thread; OpenCV {cv2.__version__}, NumPy {np.__version__}")
    found = charts(folder)
    spent = milliseconds(lambda: fit(found[GOOD].linear, COLORCHECKER24), arguments.rounds)
    print(f"A fit of every shape with leave-one-out takes {spent:.0f} ms.")
    picture = read(next(iter(sorted((folder / "isic_fullsize").glob("*.jp*g")))))
    costs(found[GOOD], picture, arguments.rounds)
    shortcut(found[GOOD], folder)
    drift(folder, arguments.captures)


if __name__ == "__main__":
    main()
