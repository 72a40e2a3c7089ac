"""The sync and the fallback at full length, against real brokers: ``python -m benchmarks.sync all`` (or one part).

Each part begins its own mosquitto on a free loopback port, with mutual TLS, and ends it. What this machine does not
have is reported as not available.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from benchmarks.sync.scene import SAVING, Books
from tests.fakes.wire import NoNamespaces

DRAIN_GOAL: Final = 0.6
FRESH_GOAL_MS: Final = 1000.0
ANSWER_GOAL_MS: Final = 3000.0


@dataclass
class Table:
    """A part of the report: a heading, lines above the table, its rows, and whether its goals were reached."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """As Markdown."""
        lines = [f"## {self.title}", ""]
        if self.rows:
            lines += [_line(self.head), _line(["---"] * len(self.head)), *map(_line, self.rows), ""]
        for note in self.notes:
            lines += [note, ""]
        return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _books(books: Books) -> tuple[str, ...]:
    return (str(books.posted), str(books.lost), str(books.duplicates_removed), str(books.twice), str(books.dead))


_BOOKS: Final = ("events", "lost", "repeats removed", "twice in the ledger", "given up")


def broker_kills(folder: Path, *, short: bool) -> Table:
    """Ten SIGKILLs in a stream of 5,000 events, the consumer away half of the time."""
    from benchmarks.sync.faults import broker_kills as run

    table = Table(
        "The broker killed ten times in a stream, the consumer away half of the time",
        ("broker", "delivery", *_BOOKS, "settled after", "memory of the device"),
    )
    ways = (
        ("forgets all (Debian's settings)", None, "cloud-ack"),
        ("saves at each change", SAVING, "cloud-ack"),
        ("forgets all (Debian's settings)", None, "puback"),
    )
    for place, (name, settings, delivery) in enumerate(ways):
        events = 500 if short else 5000
        killed = run(folder / str(place), events=events, settings=settings, delivery=delivery)
        told = (f"{killed.settled_s:.0f} s", killed.memory)
        table.rows.append((name, f"`{delivery}`", *_books(killed.books), *told))
    table.notes.append(
        "The last row is the control: with the broker's word for delivery the same deaths lose events. That is what "
        "the cloud's acknowledgement is for."
    )
    return table


def agent_kills(folder: Path, *, short: bool) -> Table:
    """A hundred SIGKILLs of the agent."""
    from benchmarks.sync.faults import agent_kills as run

    killed = run(folder, kills=12 if short else 100)
    table = Table("The agent killed between commit, publish, PUBACK and acknowledgement", ("deaths", *_BOOKS))
    table.rows.append((str(killed.kills), *_books(killed.books)))
    table.notes.append("Where it died: " + ", ".join(f"{step} {count}" for step, count in sorted(killed.steps.items())))
    return table


def network(folder: Path, *, short: bool) -> Table:
    """Black hole, delay and loss, in network namespaces."""
    from benchmarks.sync import network as net

    table = Table(
        "A bad network: nothing lost",
        ("network for the length of the stream", *_BOOKS, "with the cloud meanwhile", "connections", "settled after"),
    )
    length = 0.2 if short else 1.0
    for place, (weather, events, per_s) in enumerate(
        ((net.BLACK_HOLE, 600, 5.0), (net.SLOW, 600, 10.0), (net.LOSSY, 600, 10.0), (net.BAD, 240, 0.8))
    ):
        done = net.stream(folder / str(place), weather, events=int(events * length), per_s=per_s)
        meanwhile = (f"{done.at_once} of {done.events}", str(done.connections), f"{done.settled_s:.1f} s")
        table.rows.append((weather.name, *_books(done.books), *meanwhile))
        table.notes.append(f"Memory of the device, {weather.name}: {done.memory}.")
    return table


def answers(folder: Path, *, short: bool) -> Table:
    """How long answers take under each weather, beside an agent without any sync."""
    from benchmarks.sync import network as net

    count = 10 if short else 100
    phases = [(weather, count) for weather in (net.FINE, net.BLACK_HOLE, net.BAD, net.FINE)]
    found, books = net.answers(folder, phases)
    table = Table(
        "The same network: no answer later",
        (
            *("network", "captures of each", "file closed → answered, with sync: p50 / p95 / longest"),
            *("beside it, without `[mqtt]`", "p50, ratio"),
        ),
    )
    for one in found:
        ours, alone = net.percentiles(one.with_sync), net.percentiles(one.alone)
        told = [" / ".join(f"{value:.0f}" for value in values) + " ms" for values in (ours, alone)]
        table.rows.append((one.name, str(len(one.alone)), *told, f"{ours[0] / alone[0]:.2f}"))
    table.notes.append(
        f"Of these {books.posted} captures' events {books.lost} were lost ({books.duplicates_removed} repeats removed)."
    )
    return table


def drain(folder: Path, *, short: bool) -> Table:
    """A backlog of 100,000 rows."""
    from benchmarks.sync.drain import measure

    rows, bare = (5000, 5000) if short else (100_000, 30_000)
    table = Table(
        "Drain of a backlog over mutual TLS, beside a bare paho loop with the same window",
        (
            *("other side", "delivery", "rows", "a row", "settled", "bare, to the PUBACK", "ratio"),
            *("processor time a row: ours / bare", "bare, to the ledger", "ratio"),
            *("fresh result: p50 / p99 / longest", "lost"),
        ),
    )
    for place, (quick, delivery) in enumerate(((True, "cloud-ack"), (True, "puback"), (False, "cloud-ack"))):
        done = measure(folder / str(place), rows, bare, quick=quick, delivery=delivery)
        ledger = done.bare_to_ledger_per_s
        kept = ("", "") if quick else (f"{ledger:.0f} /s", f"{done.settled_per_s / ledger:.2f}")
        p50, p99, most = done.fresh()
        table.rows.append(
            (
                "quick cloud" if quick else "reference cloud",
                f"`{delivery}`",
                str(done.rows),
                f"{done.row_bytes / 1e3:.1f} kB",
                f"{done.settled_per_s:.0f} /s",
                f"{done.bare_per_s:.0f} /s",
                f"**{done.settled_per_s / done.bare_per_s:.2f}**",
                f"{done.cpu_us:.0f} / {done.bare_cpu_us:.0f} µs",
                *kept,
                f"{p50:.0f} / {p99:.0f} / {most:.0f} ms",
                "" if done.books is None else str(done.books.lost),
            )
        )
        table.notes.append(f"Memory of the device ({table.rows[-1][0]}, {delivery}): {done.memory}.")
    return table


def acknowledgement(folder: Path, *, short: bool) -> Table:
    """What the cloud's word on an event costs in the outbox."""
    from benchmarks.sync.row import TOGETHER, measure

    table = Table(
        "What the cloud's word on an event costs in the outbox", ("event", "processor time a row", "wall time a row")
    )
    for cost in measure(folder, rows=3_000 if short else 12_000):
        told = (f"{cost.event_bytes / 1e3:g} kB", f"{cost.cpu_us:.0f} µs", f"{cost.wall_us:.0f} µs")
        table.rows.append(told)
    table.notes.append(f"{TOGETHER} events in a word, each word a transaction (WAL, synchronous=FULL).")
    return table


def steady(folder: Path, *, short: bool) -> Table:
    """Memory over minutes in which everything fails in turn."""
    from benchmarks.sync.steady import measure

    done = measure(folder, turns=2 if short else 16)
    table = Table(
        "Memory of the device, while everything fails in turn",
        ("minutes", *_BOOKS, "connections", "settled after", "mean of each half", "peak", "second half"),
    )
    first, second = done.halves
    table.rows.append(
        (
            f"{done.minutes:.0f}",
            *_books(done.books),
            str(done.connections),
            f"{done.settled_s:.1f} s",
            f"{first:.1f}, {second:.1f} MB",
            f"{done.peak:.1f} MB",
            f"{done.per_hour:+.1f} ± {done.half:.1f} MB an hour",
        )
    )
    return table


def thousand(folder: Path, *, short: bool) -> Table:
    """A thousand devices come back."""
    from benchmarks.sync.thousand import measure

    done = measure(folder, devices=100 if short else 1000, down_s=5.0 if short else 60.0)
    table = Table(
        "A thousand devices and a broker that restarts",
        (
            "devices",
            "broker away",
            "first second",
            "busiest second while away",
            "busiest second after",
            "back: half, all",
        ),
    )
    table.rows.append(
        (
            str(done.devices),
            f"{done.down_s:.0f} s",
            f"{done.first_s} attempts",
            f"{done.most_down} attempts",
            f"{done.most_back} attempts",
            f"{done.half_s:.1f} s, {done.all_s:.0f} s",
        )
    )
    table.notes += [
        "Attempts by the second since the kill: "
        + ", ".join(str(done.per_second.get(second, 0)) for second in range(max(done.per_second) + 1)),
        f"Memory of one of the devices' processes ({done.devices // 4} devices each): {done.memory}.",
    ]
    return table


def fallback(folder: Path, *, short: bool) -> Table:
    """The GPU fails; the cloud answers, or fails in its turn."""
    from benchmarks.sync import fallback as falls

    table = Table("The GPU fails", ("what happens", "answers", "by", "p50", "longest", "within 3 s"))
    found = falls.reference(folder / "reference", 5 if short else 100)
    (folder / "failures").mkdir()
    for one in (*found, *falls.failures(folder / "failures", 1 if short else 3)):
        middle, most = sorted(one.ms)[len(one.ms) // 2], max(one.ms)
        table.rows.append(
            (
                one.name if one in found else f"the cloud: {one.name}",
                str(len(one.ms)),
                ", ".join(sorted(set(one.backends))),
                f"{middle:.0f} ms",
                f"{most:.0f} ms",
                "yes" if most < ANSWER_GOAL_MS else "**no**",
            )
        )
    return table


def pictures(_folder: Path, *, short: bool) -> Table:  # noqa: ARG001 - as the others
    """How far the probabilities move by what is sent."""
    from benchmarks.sync import fallback as falls

    table = Table(
        "What is sent to the cloud, and how far the probabilities move by it",
        ("picture", "as it is sent", "largest change of a probability", "95 % of all below"),
    )
    if (where := falls.pictures()) is None:
        table.notes.append("Not available: no full-size pictures here; set DERMASCAN_TEST_DATA to their folder.")
        return table
    views, found = falls.moved(where)
    for one in found:
        table.rows.append((one.what, f"{one.kilobytes:.0f} kB", f"{one.most:.4f}", f"{one.p95:.4f}"))
    table.notes.append(f"Demonstration bundle, {views} views of full-size captures, against the picture never sent.")
    return table


PARTS: Final[dict[str, Sequence[Callable[..., Table]]]] = {
    "broker-kills": (broker_kills,),
    "agent-kills": (agent_kills,),
    "network": (network,),
    "answers": (answers,),
    "drain": (drain, acknowledgement),
    "steady": (steady,),
    "thousand": (thousand,),
    "fallback": (fallback, pictures),
}


def machine() -> str:
    """What it was measured on."""
    from benchmarks.pipeline import machine as whole

    return f"{whole()}, paho-mqtt {version('paho-mqtt')}"


def main() -> int:
    """Measure, and print each table as soon as it is there."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.sync", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=(*PARTS, "all"), help="what to measure")
    parser.add_argument("--short", action="store_true", help="a tenth of the length: to see that it runs")
    arguments = parser.parse_args()
    print(f"{machine()}\n")
    chosen = PARTS if arguments.part == "all" else {arguments.part: PARTS[arguments.part]}
    for name, measures in chosen.items():
        for measure in measures:
            print(f"{name}: {measure.__doc__} ...", file=sys.stderr)
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="sync-") as folder:
                try:
                    text = measure(Path(folder), short=arguments.short).text()
                except (NoNamespaces, pytest.skip.Exception) as error:
                    text = f"## {measure.__doc__}\n\nNot available here: {error}.\n"
            print(f"{text}\n`python -m benchmarks.sync {name}`, {time.monotonic() - started:.0f} s\n", flush=True)
    return 0
