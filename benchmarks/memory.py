"""Does the agent grow? Resident memory over many captures: ``python -m benchmarks.memory --scans 10000`` (F23)."""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil

from benchmarks.captures import JPEG_XGA, distinct, write
from benchmarks.process import AgentProcess, peak_mb, resident_mb, write_config
from engines.bundle import demo_bundle_folder


def slope(values: list[float], per: int) -> tuple[float, float]:
    """Least-squares slope in kB per scan and its 95 % half-width, of samples taken each ``per`` scans.

    The half-width is a block bootstrap's (blocks of 10 samples of the residuals), as neighbouring samples are alike.
    """
    x = np.arange(len(values)) * per
    y = np.asarray(values) * 1e3
    design = np.stack([np.ones_like(x), x], axis=1).astype(float)
    fit, *_ = np.linalg.lstsq(design, y, rcond=None)
    residuals = y - design @ fit
    rng, length = np.random.default_rng(0), 10
    slopes = []
    for _ in range(2000):
        starts = rng.integers(0, len(y) - length + 1, -(-len(y) // length))
        noise = np.concatenate([residuals[s : s + length] for s in starts])[: len(y)]
        slopes.append(np.linalg.lstsq(design, design @ fit + noise, rcond=None)[0][1])
    low, high = np.percentile(slopes, [2.5, 97.5])
    return float(fit[1]), float(high - low) / 2


def answered(database: Path, count: int) -> None:
    """Wait until so many captures are answered. The log does not tell: what it says too often is held back."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        end = time.monotonic() + 60
        while db.execute("SELECT count(*) FROM scans WHERE state = 'answered'").fetchone()[0] < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{count} captures are not answered within 60 s")
            time.sleep(0.01)


def main() -> None:
    """Feed the agent and watch it and its worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--config", default="", help="more of agent.toml, such as '[api]'")
    parser.add_argument("--every", type=int, default=50, help="captures between two samples")
    arguments = parser.parse_args()
    files = distinct(JPEG_XGA)
    agent_mb, worker_mb = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with AgentProcess(write_config(root, demo_bundle_folder(), 1, f"\n{arguments.config}\n")) as process:
            process.wait_for("ready:", 60)
            for number in range(arguments.scans):
                write(root / "scope-0", f"{number}.jpg", next(files))
                answered(root / "state" / "dermascan.db", number + 1)
                (root / "scope-0" / f"{number}.jpg").unlink()
                if number % arguments.every == arguments.every - 1:
                    agent_mb.append(resident_mb(process.agent))
                    try:
                        worker_mb.append(resident_mb(process.worker))
                    except (psutil.Error, ValueError):  # being replaced just now
                        worker_mb.append(worker_mb[-1])
            for name, values, one in (("agent", agent_mb, process.agent), ("worker", worker_mb, process.worker)):
                kept = values[len(values) // 10 :]  # the first tenth is warming up
                rate, half = slope(kept, arguments.every)
                print(
                    f"{name}: {kept[0]:.1f} MB at the start, {kept[-1]:.1f} MB at the end, peak {peak_mb(one):.1f} MB; "
                    f"slope {rate:+.3f} ± {half:.3f} kB per scan over {arguments.scans} scans"
                )


if __name__ == "__main__":
    main()
