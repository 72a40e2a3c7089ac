"""A verification for people: one table of gates with intervals, and the verdict in a sentence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TextIO

from engines.verification.gates import Gate, Outcome, Unit, Verdict
from engines.verification.intervals import Figure
from engines.verification.record import Verification

_STYLES: Final = {Outcome.MET: "green", Outcome.UNMET: "bold red", Outcome.NOT_MEASURED: "yellow"}
_HEADER: Final = ("gate", "due", "measured (95 % interval)", "outcome", "note")


def in_words(figure: Figure | None, unit: Unit) -> str:
    """A figure with its interval: ``99.80 % (98.88 to 99.96)``."""
    if figure is None:
        return "–"
    if unit is Unit.SHARE:
        scale, spec, suffix = 100.0, ".2f", " %"
    elif unit is Unit.MS:
        scale, spec, suffix = 1.0, ".1f", " ms"
    else:
        scale, spec, suffix = 1.0, ".6f", ""
    text = f"{figure.value * scale:{spec}}{suffix}"
    if figure.low is not None and figure.high is not None:
        text += f" ({figure.low * scale:{spec}} to {figure.high * scale:{spec}})"
    return text


def _cells(gate: Gate) -> tuple[str, str, str, str, str]:
    return gate.name, gate.demand, in_words(gate.figure, gate.unit), gate.outcome.value, gate.note


def facts(found: Verification) -> list[str]:
    """What is worth knowing beside the gates, a line each."""
    lines = []
    for what, comparison in (("golden image", found.self_test), ("pictures", found.pictures)):
        if comparison is not None:
            correlation = in_words(comparison.attention_correlation_mean, Unit.NUMBER)
            largest = f"max {comparison.difference_max:.6f}, mean {comparison.difference_mean:.6f}"
            of_risk = f"of the melanoma risk max {comparison.risk_difference_max:.6f}"
            lines.append(f"{what}: |Δprobability| {largest}; {of_risk}")
            lines.append(f"{what}: attention's correlation, mean {correlation}")
    if found.latency_p50_ms is not None:
        lines.append(f"latency with preprocessing, median {in_words(found.latency_p50_ms, Unit.MS)}")
    if found.picture_set is not None:
        chosen = found.picture_set
        lines.append(f"{chosen.count} of {chosen.of} pictures of {chosen.folder}, seed {chosen.seed}")
    return lines


def sentence(found: Verification) -> str:
    """The verdict in a sentence."""
    what = f"{found.bundle} on {found.engine['backend']}"
    unmet = sum(gate.outcome is Outcome.UNMET for gate in found.gates)
    missing = sum(gate.outcome is Outcome.NOT_MEASURED for gate in found.gates)
    if found.failure is not None:
        return f"FAILED: {what}: the engine could not be run: {found.failure}"
    if found.verdict is Verdict.FAILED:
        return f"FAILED: {what}: {unmet} of {len(found.gates)} gates unmet, {missing} not measured"
    if found.verdict is Verdict.INCOMPLETE:
        return f"INCOMPLETE: {what}: no gate is unmet, {missing} of {len(found.gates)} were not measured"
    return f"PASSED: {what}: all {len(found.gates)} gates are met"


def show(found: Verification, stream: TextIO = sys.stdout) -> None:
    """Print table, facts and verdict: coloured on a terminal, plain text elsewhere."""
    if stream.isatty():
        _show_pretty(found, stream)
        return
    for line in [*_plain_table([_HEADER, *map(_cells, found.gates)]), "", *facts(found), "", sentence(found)]:
        print(line, file=stream)


def _plain_table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _show_pretty(found: Verification, stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    table = Table(title=Text(f"{found.bundle} on {found.engine['backend']}"), box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _HEADER:
        table.add_column(name, overflow="fold")
    for gate in found.gates:
        name, due, measured, outcome, note = _cells(gate)
        table.add_row(name, due, measured, Text(outcome, style=_STYLES[gate.outcome]), Text(note, style="dim"))
    console.print(table)
    for line in facts(found):
        console.print(Text(line, style="dim"))
    style = {Verdict.PASSED: "bold green", Verdict.FAILED: "bold red"}.get(found.verdict, "bold yellow")
    console.print(Text(sentence(found), style=style))
