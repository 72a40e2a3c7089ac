"""A soak's result as Markdown."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from agent import __version__
from benchmarks.soak.figures import WARM_UP_S, Sample, percentiles, trend

if TYPE_CHECKING:
    from benchmarks.soak.run import Soaked


def report(soaked: Soaked) -> str:
    """All of it in words."""
    return "\n".join([*_verdict(soaked), *_books(soaked), *_faults(soaked), *_figures(soaked)]) + "\n"


def _verdict(soaked: Soaked) -> list[str]:
    plan = soaked.plan
    command = f"python -m benchmarks.soak --minutes {plan.seconds / 60:g} --seed {plan.seed}"
    place = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} processors"
    pace = (
        f"a capture every {plan.capture_every_s:g} s from each of two dermoscopes and a fault every "
        f"{plan.fault_every_s:g} s, both on average and at random"
    )
    lines = [
        f"## {plan.seconds / 60:.1f} minutes, seed {plan.seed}: {'FAILED' if soaked.wrong else 'as it has to be'}",
        "",
        f"DermaScan Edge {__version__}, {place}; {pace}. `{command}`",
        "",
    ]
    return [*lines, *(f"- **wrong:** {text}" for text in soaked.wrong[:40]), *([""] if soaked.wrong else [])]


def _books(soaked: Soaked) -> list[str]:
    found, notes = soaked.found, soaked.notes
    events = found.events
    settled = "not in time" if soaked.settled_s is None else f"{soaked.settled_s:.1f} s"
    rows: list[tuple[str, object]] = [
        ("captures written", found.captures),
        ("… answered", found.answered),
        ("… refused", found.refused),
        ("… of these good pictures at whose analysis the agent died three times", found.by_death),
        ("pictures written once more under another name, renamed", f"{notes.again}, {len(notes.renamed)}"),
        ("sidecars before or after their picture", notes.sidecars),
        ("verdicts given", found.verdicts),
        ("verdicts that the command refused, with a sentence", len(notes.not_taken)),
    ]
    if events is not None:
        rows.append(("events acknowledged by the cloud", events.acknowledged))
        rows.append(("… whose bytes the device gave up for want of room", found.slimmed))
        bad = (events.lost, events.twice, events.changed, events.dead)
        rows += [
            ("events lost, twice, changed, given up", ", ".join(map(str, bad))),
            ("deliveries of the same event that the cloud passed over", events.duplicates_removed),
        ]
    rows += [
        ("starts of the agent", soaked.lives),
        ("from its start to ready, s", percentiles(soaked.ready_s)),
        ("from the last fault's end until everything had come to its end", settled),
    ]
    return ["| books | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]


def _faults(soaked: Soaked) -> list[str]:
    counts = soaked.faults.counts
    lines = ["| fault | times |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in sorted(counts.items()) if count]
    lines += [f"| {kind} | none: {why} |" for kind, why in soaked.faults.left_out.items()]
    return [*lines, ""]


def _figures(soaked: Soaked) -> list[str]:
    figures, found = soaked.figures, soaked.found
    life = figures.longest_life()
    every_s = figures.every_s
    lines = ["| figure | |", "|---|---|"]
    series: list[tuple[str, list[float]]] = [
        ("resident memory of the agent, MB", [sample.agent_mb for sample in life]),
        ("resident memory of the worker, MB", [sample.worker_mb for sample in life if sample.worker_mb is not None]),
        ("open files", [float(sample.descriptors) for sample in life]),
        ("… of the database besides", [float(sample.of_database) for sample in life]),
        ("threads", [float(sample.threads) for sample in life]),
    ]
    if means := figures.by_period():
        told = ", ".join(f"{mean:.1f}" for mean in means)
        lines.append(f"| resident memory of the agent in each ten minutes of its longest life, mean, MB | {told} |")
    for name, values in series:
        lines.append(f"| {name} | {_span(values)} |")
        lines.append(f"| … slope over the longest life | {trend(values, every_s) or 'too short to tell'} |")
    lines.append(f"| write-ahead log, MB | {_span([sample.wal_bytes / 1e6 for sample in figures.samples])} |")
    lines.append(f"| answers, ms, as they say themselves | {percentiles(found.latencies_ms)} |")
    lines.append(f"| … drift, ms | {_drift(found.latencies_ms)} |")
    lines.append(f"| from a file's close to its result file, s, outages and all | {percentiles(found.waits_s)} |")
    lines.append(f"| log, kB per capture | {soaked.log_bytes / 1e3 / max(1, found.captures):.1f} |")
    lines += ["", f"The longest life: {_length(life)}.", ""]
    return lines


def _length(life: Sequence[Sample]) -> str:
    return (
        "too short to tell"
        if len(life) < 2
        else f"{(life[-1].at - life[0].at) / 60:.1f} minutes after {WARM_UP_S / 60:.0f} of warming up"
    )


def _span(values: Sequence[float]) -> str:
    if not values:
        return "no samples"
    return f"{values[0]:.1f} at the start, {values[-1]:.1f} at the end, at most {max(values):.1f}"


def _drift(values: Sequence[float]) -> str:
    """The median of the last quarter less that of the first, with a bootstrap's 95 % interval."""
    quarter = len(values) // 4
    if quarter < 10:
        return "too few answers to tell"
    rng = np.random.default_rng(0)
    first, last = np.asarray(values[:quarter]), np.asarray(values[-quarter:])
    draws = [np.median(rng.choice(last, quarter)) - np.median(rng.choice(first, quarter)) for _ in range(2000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{np.median(last) - np.median(first):+.1f} (95 %: {low:+.1f} to {high:+.1f})"
