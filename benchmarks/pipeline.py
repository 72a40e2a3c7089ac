"""The pipeline against the bare forward pass of its engine, side by side in one run: ``python -m benchmarks.pipeline``.

Machines drift, so the figures that are compared are taken in turn (a few bare passes, a few captures, and again), and
the ratios are of each percentile to the median of the bare passes.
"""

from __future__ import annotations

import argparse
import os
import platform
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from agent.analysts import Finished
from agent.answer.colours import Colours
from agent.answer.pipeline import Setting, analyse
from agent.answer.scan import Calibration, CalibrationState
from agent.config import load_config
from agent.daemon import Daemon
from agent.intake.capture import Capture, FileStamp
from agent.intake.sidecar import Sidecar
from agent.intake.watch import FolderWatch
from agent.memory import give_memory_back
from benchmarks.calibration import dear_corrector
from benchmarks.captures import JPEG_12MP, JPEG_XGA, PNG_XGA, Kind, distinct, write
from benchmarks.process import AgentProcess, peak_mb, resident_mb, write_config
from build.random_bundle import RandomBundle, make
from engines.bundle import demo_bundle_folder, golden_input, load_bundle
from engines.onnx_cpu import open_backend, session_options

BURST = 50
PAUSE_S = 0.1
"""Before each capture: the files of the last answer are still being written."""


@dataclass(frozen=True)
class Row:
    """One line of the table; times in ms; ``ratio`` to the bare forward pass's median where that makes sense."""

    what: str
    value: str
    ratio: str = ""


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    p50, p95, p99 = (float(v) for v in np.percentile(values, [50, 95, 99]))
    return p50, p95, p99


def _times(work: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each of ``count`` calls."""
    values = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        values.append((time.perf_counter() - started) * 1e3)
    return values


class Commits:
    """Collects the daemon's commits, and waits for them."""

    def __init__(self) -> None:
        self._seen: dict[str, Finished] = {}
        self._changed = threading.Condition()

    def __call__(self, finished: Finished) -> None:
        """Note one; the daemon calls this."""
        with self._changed:
            self._seen[finished.path.name] = finished
            self._changed.notify_all()

    def wait(self, names: Sequence[str], timeout_s: float = 300) -> list[Finished]:
        """The commits of these files, once all are there."""
        with self._changed:
            if not self._changed.wait_for(lambda: all(name in self._seen for name in names), timeout_s):
                raise TimeoutError(f"not committed within {timeout_s} s: {[n for n in names if n not in self._seen]}")
            finished = [self._seen[name] for name in names]
        for one in finished:
            if one.answer is None:
                raise RuntimeError(f"{one.path.name}: refused ({one.sentence}); the measurement would be of nothing")
        return finished


def measure_bundle(name: str, bundle: Path, kinds: Sequence[Kind], rounds: int, bursts: int) -> list[Row]:
    """Everything that is compared with one bundle's bare forward pass."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        commits = Commits()
        daemon = Daemon(load_config(write_config(root, bundle, 1)), on_finished=commits)
        backend = open_backend(bundle)
        images = golden_input(load_bundle(bundle, check_hashes=False))
        daemon.start()
        try:
            if not daemon.wait_ready(120):
                raise TimeoutError(f"{name}: no engine became ready in 120 s")
            _times(lambda: backend.run(images), 3)
            for kind in kinds:
                rows += _measure_kind(daemon, commits, lambda: backend.run(images), kind, rounds=rounds)
            rows += [_burst(commits, root / "scope-0", lambda: backend.run(images), turn) for turn in range(bursts)]
            rows.append(_measure_colours(daemon, commits, rounds=3 * rounds))
        finally:
            daemon.stop()
            backend.close()
    return [Row(f"{name}: {row.what}", row.value, row.ratio) for row in rows]


def _measure_kind(
    daemon: Daemon, commits: Commits, bare: Callable[[], object], kind: Kind, *, rounds: int
) -> list[Row]:
    folder = daemon.config.dermoscopes[0].folder
    setting = daemon._setting  # noqa: SLF001 - the same setting, so that the same engine is compared
    files = distinct(kind)
    bare_ms: list[float] = []
    analyse_ms: list[float] = []
    daemon_ms: list[float] = []
    beside_ms: list[float] = []
    rested_ms: list[float] = []

    def analyse_once() -> None:
        data = next(files)
        stamp = FileStamp(0, 0, len(data), 0, 0)
        capture = Capture.from_bytes(Path(f"x{kind.suffix}"), "bench", stamp, data)
        started = time.perf_counter()
        analyse(capture, setting, "bench", Sidecar)
        analyse_ms.append((time.perf_counter() - started) * 1e3)

    for number in range(rounds):
        bare_ms += _times(bare, 3)
        for _ in range(3):
            time.sleep(PAUSE_S)
            rested_ms += _times(bare, 1)
        for _ in range(2):
            analyse_once()
        for shot in range(3):
            name = f"{kind.width}-{number}-{shot}{kind.suffix}"
            data = next(files)
            closed = write(folder, name, data)
            (finished,) = commits.wait([name])
            daemon_ms.append((finished.committed - closed) * 1e3)
            beside_ms.append(daemon_ms[-1] - _engine_ms(finished))
            time.sleep(PAUSE_S)
    base = float(np.median(bare_ms))
    a50, a95, a99 = _percentiles(analyse_ms)
    d50, d95, d99 = _percentiles(daemon_ms)
    b50, b95, b99 = _percentiles(bare_ms)
    e50, e95, e99 = _percentiles(beside_ms)
    r50, r95, r99 = _percentiles(rested_ms)

    def both(*values: float) -> tuple[str, str]:
        return " / ".join(f"{v:.1f} ms" for v in values), " / ".join(f"{v / base:.2f}" for v in values)

    return [
        Row(f"bare forward pass, beside {kind.name} (p50 / p95 / p99)", *both(b50, b95, b99)),
        Row("bare forward pass after a pause as before a capture (p50 / p95 / p99)", *both(r50, r95, r99)),
        Row(f"`analyse`, {kind.name} (p50 / p95 / p99)", *both(a50, a95, a99)),
        Row(f"file closed → answer committed, {kind.name} (p50 / p95 / p99)", *both(d50, d95, d99)),
        Row(f"of it beside the engine's own pass, {kind.name} (p50 / p95 / p99)", *both(e50, e95, e99)),
    ]


def _engine_ms(finished: Finished) -> float:
    """How long the engine took for it, with the way to it and its turn: what a slow moment of the machine changes."""
    if finished.answer is None:
        raise RuntimeError(f"{finished.path.name}: refused ({finished.sentence})")
    return finished.answer.timings_ms["inference"]


def _measure_colours(daemon: Daemon, commits: Commits, *, rounds: int) -> Row:
    """What correcting the colours adds: the same captures with and without a profile, in turn."""
    analysts, plain = daemon._analysts, daemon._setting  # noqa: SLF001 - only the colours are to differ
    about = Calibration(profile_id="bench", state=CalibrationState.VALID)
    profile = Colours(about, (), dear_corrector())
    corrected = replace(plain, colours=lambda _scope, _shape: profile)
    files, folder = distinct(JPEG_XGA), daemon.config.dermoscopes[0].folder
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for calibrated in (bool(number % 2), not number % 2):
            analysts.use(corrected if calibrated else plain)
            name = f"colours-{number}-{calibrated:d}.jpg"
            closed = write(folder, name, next(files))
            (finished,) = commits.wait([name])
            times[calibrated].append((finished.committed - closed) * 1e3)
            time.sleep(0.1)
    analysts.use(plain)
    on, off = (float(np.median(times[calibrated])) for calibrated in (True, False))
    cost = float(np.median(list(_stage_ms(corrected, files))))
    return Row(
        "file closed → answer committed, with a colour profile / without (p50)",
        f"{on:.1f} / {off:.1f} ms; the stage itself {cost:.2f} ms",
        f"{on / off:.3f}",
    )


def _stage_ms(setting: Setting, files: Iterator[bytes]) -> Iterator[float]:
    """The stage "colours" of 30 analyses, in ms."""
    for _ in range(30):
        data = next(files)
        capture = Capture.from_bytes(Path("x.jpg"), "bench", FileStamp(0, 0, len(data), 0, 0), data)
        yield analyse(capture, setting, "bench", Sidecar).answer.timings_ms["colours"]


def measure_noticing(count: int) -> Row:
    """From a file's close to the start of work on it: the watch reads it, finds it complete and hands it on."""
    delivered: queue.Queue[float] = queue.Queue()
    values = []
    with tempfile.TemporaryDirectory() as name:
        folder, stop = Path(name), threading.Event()
        watch = FolderWatch(folder, "bench", lambda _: delivered.put(time.monotonic()), known=lambda *_: False)
        thread = threading.Thread(target=watch.run, args=(stop,))
        thread.start()
        time.sleep(0.5)
        files = distinct(JPEG_XGA)
        for number in range(count):
            closed = write(folder, f"{number}.jpg", next(files))
            values.append((delivered.get(timeout=10) - closed) * 1e3)
        stop.set()
        thread.join()
    percentiles = " / ".join(f"{value:.2f} ms" for value in _percentiles(values))
    return Row("file closed → work started, 1024×768 JPEG (p50 / p95 / p99)", percentiles)


def _burst(commits: Commits, folder: Path, bare: Callable[[], object], turn: int) -> Row:
    """A visit's burst: how many captures a second, against the bare engine's passes a second just before and after."""
    files = distinct(JPEG_XGA)
    waiting = [(f"burst-{turn}-{number}.jpg", next(files)) for number in range(BURST)]
    before = _times(bare, 10)
    started = time.monotonic()
    for name, data in waiting:
        write(folder, name, data)
    last = max(finished.committed for finished in commits.wait([name for name, _ in waiting]))
    time.sleep(0.5)
    after = _times(bare, 10)
    rate, bare_rate = BURST / (last - started), 1e3 / float(np.median(before + after))
    return Row(
        f"burst of {BURST} captures (1024×768 JPEG)", f"{rate:.1f} /s", f"{rate / bare_rate:.2f} of bare throughput"
    )


def measure_attention(with_it: Path, without_it: Path, rounds: int) -> Row:
    """What handing out the attention map costs the engine: the same weights with and without the output."""
    sessions = []
    for bundle in (with_it, without_it):
        options = session_options(0, spinning=False)
        sessions.append(onnxruntime.InferenceSession(str(bundle / "model.onnx"), options, ["CPUExecutionProvider"]))
    images = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for session, values in zip(sessions, times, strict=True):
            values.extend(_times(partial(session.run, None, {"images": images}), 3))
    on, off = (float(np.median(values)) for values in times)
    return Row("ViT-B/16: engine with the attention output / without", f"{on:.1f} / {off:.1f} ms", f"{on / off:.3f}")


def measure_process(name: str, bundle: Path, idle_s: float) -> list[Row]:
    """Start, idle processor time and memory of the agent as a process, watching four folders."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with AgentProcess(write_config(root, bundle, 4)) as process:
            ready = process.wait_for("ready:", 120)
            time.sleep(3)
            used = process.cpu_seconds()
            time.sleep(idle_s)
            idle = (process.cpu_seconds() - used) / idle_s
            for kind, count in ((JPEG_XGA, 20), (JPEG_12MP, 5)):
                files = distinct(kind)
                for number in range(count):
                    write(root / "scope-0", f"{kind.width}-{number}.jpg", next(files))
                for _ in range(count):
                    process.wait_for("answered", 120)
            time.sleep(1)
            agent, worker = process.agent, process.worker
            return [
                Row(f"{name}: start → ready", f"{ready * 1e3:.0f} ms"),
                Row(f"{name}: idle, 4 folders watched, {idle_s:.0f} s", f"{idle * 100:.2f} % of one core"),
                Row(f"{name}: agent without its worker, resident after 25 captures", f"{resident_mb(agent):.0f} MB"),
                Row(f"{name}: agent without its worker, peak", f"{peak_mb(agent):.0f} MB"),
                Row(f"{name}: worker, resident / peak", f"{resident_mb(worker):.0f} / {peak_mb(worker):.0f} MB"),
            ]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| measured | value | ratio |", "|---|---|---|"]
    lines += [f"| {row.what} | {row.value} | {row.ratio} |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    """What it was measured on, in one line."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    versions = f"Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, OpenCV {cv2.__version__}"
    return f"{model}, {len(os.sched_getaffinity(0))} cores; {versions}"


def main() -> int:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of bare passes and captures (default 20)")
    parser.add_argument("--idle-s", type=float, default=60, help="seconds of idling to measure (default 60)")
    parser.add_argument("--bursts", type=int, default=1, help="bursts of 50 captures (default 1): they scatter")
    parser.add_argument("--only", choices=("demo", "vit_b_16"), help="measure one bundle only")
    arguments = parser.parse_args()
    give_memory_back()  # as `dermascan run` does
    rows = [measure_noticing(200)]
    with tempfile.TemporaryDirectory() as folder:
        print("making a randomly initialised ViT-B/16 to measure with ...", file=sys.stderr)
        big, bare = Path(folder, "with"), Path(folder, "without")
        if arguments.only != "demo":
            make(RandomBundle("vit_b_16", big))
            make(RandomBundle("vit_b_16", bare, attention=False))
            rows.append(measure_attention(big, bare, arguments.rounds))
        bundles = {"ViT-B/16": big, "demo (ViT-Ti/16)": demo_bundle_folder()}
        chosen = {"demo": ["demo (ViT-Ti/16)"], "vit_b_16": ["ViT-B/16"]}.get(arguments.only, list(bundles))
        for name in chosen:
            print(f"measuring {name} ...", file=sys.stderr)
            kinds = (JPEG_XGA, JPEG_12MP, PNG_XGA)
            rows += measure_bundle(name, bundles[name], kinds, arguments.rounds, arguments.bursts)
            rows += measure_process(name, bundles[name], arguments.idle_s)
    print(f"{machine()}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
