"""What a terminal shows of a measurement: colours side by side, figures, a verdict in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from calibration.shelf.profile import ChartUsed, Figures, PatchResult, Profile
from calibration.shelf.verification import Verification
from calibration.visit.swatches import hex_of_lab

CELL: Final = 9
STYLES: Final = {
    "pass": "bold white on dark_green",
    "marginal": "bold black on yellow",
    "warn": "bold black on yellow",
    "fail": "bold white on red",
    "block": "bold white on red",
}
WORDS: Final = {
    "pass": "PASS",
    "marginal": "MARGINAL",
    "warn": "PASS, WITH A WARNING",
    "fail": "FAIL",
    "block": "BLOCKED",
}


def verdict(outcome: str) -> Text:
    """A verdict as a coloured word."""
    return Text(f" {WORDS[outcome]} ", style=STYLES[outcome])


def chart_grid(patches: Sequence[PatchResult], chart: ChartUsed, limit: float) -> RenderableType:
    """Each patch as the chart has it, above what the profile makes of it, above their difference."""
    cells = {patch.place: (patch.reference_lab, patch.after_lab, patch.after) for patch in patches}
    caption = "each patch: the chart's own colour, below it the corrected one, their difference"
    return colour_grid(cells, (chart.rows, chart.columns), caption, limit)


def colour_grid(
    cells: Mapping[int, tuple[Sequence[float], Sequence[float], float | None]],
    shape: tuple[int, int],
    caption: str,
    limit: float = float("inf"),
) -> RenderableType:
    """Two colours above each other for each place of a chart, in Lab, and a number below.

    Args:
        cells: by place, in rows from the top left.
        shape: rows, columns.
        caption: above the grid.
        limit: a number above it is red.
    """
    grid = Table.grid(padding=(0, 1, 0, 0))
    rows, columns = shape
    for row in range(rows):
        places = range(row * columns, (row + 1) * columns)
        grid.add_row(*(_cell(*cells[place], limit) if place in cells else Text("\n\n") for place in places))
    return Group(Text(caption, "dim"), grid)


def _cell(above: Sequence[float], below: Sequence[float], number: float | None, limit: float) -> RenderableType:
    cell = Text()
    cell.append(" " * CELL + "\n", f"on {hex_of_lab(above)}")
    cell.append(" " * CELL + "\n", f"on {hex_of_lab(below)}")
    cell.append(("" if number is None else f"{number:.1f}").center(CELL), "red" if (number or 0.0) > limit else "")
    return cell


def figures_table(rows: Mapping[str, Figures], limits: Mapping[str, float]) -> Table:
    """Figures below each other, and the limits they are held against."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("colour difference, CIEDE2000", "mean", "95 %", "largest", "colour in grey"):
        table.add_column(heading, justify="left" if heading.startswith("colour d") else "right")
    for name, figures in rows.items():
        values = (figures.mean, figures.p95, figures.max, figures.grey_chroma)
        table.add_row(name, *(f"{value:.2f}" for value in values))
    limit_cells = [f"{limits[key]:g}" if key in limits else "" for key in ("mean", "p95", "max")]
    table.add_row("limit", *limit_cells, "", style="dim")
    return table


def facts(rows: Mapping[str, str | None]) -> Table:
    """Names and values below each other; empty ones are left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    return table


def show_profile(console: Console, profile: Profile) -> None:
    """A profile that was just fitted."""
    in_terminal = console.is_terminal
    console.print(Text.assemble(("Profile ", "bold"), (profile.profile_id, "bold"), "  ", verdict(profile.outcome)))
    console.print(
        facts(
            {
                "dermoscope": profile.dermoscope_id,
                "chart": chart_words(profile.chart),
                "light": profile.illuminant,
                "flat field": flat_words(profile),
                "model": profile.shape,
                "made by": f"{profile.operator}, {profile.created_at:%d %B %Y %H:%M} UTC",
                "expires": f"{profile.expires_at:%d %B %Y}",
            }
        )
    )
    console.print()
    if in_terminal:
        console.print(chart_grid(profile.patches, profile.chart, profile.limits["max"]))
        console.print()
    rows = {
        "as the camera gives it": profile.before,
        "with the profile": profile.in_sample,
        "with the profile, each patch left out of its own fit": profile.leave_one_out,
    }
    console.print(figures_table(rows, profile.limits))
    reasons(console, profile.reasons, profile.outcome)


def show_verification(console: Console, verification: Verification) -> None:
    """A verification that was just made."""
    head = "Re-shot verification of " if verification.reshot else "Verification of "
    console.print(Text.assemble((head, "bold"), (verification.profile_id, "bold"), "  ", verdict(verification.verdict)))
    if console.is_terminal:
        console.print()
        console.print(chart_grid(verification.patches, verification.chart, verification.limits["max"]))
        console.print()
    rows = {"as the camera gives it": verification.before, "with the profile": verification.after}
    console.print(figures_table(rows, verification.limits))
    if verification.commissioning is not None and verification.rise is not None:
        warned, blocked = (verification.limits[key] for key in ("warn_rise", "block_rise"))
        console.print(
            f"commissioning {verification.commissioning:.2f}, now {verification.after.mean:.2f}: "
            f"{verification.rise:+.2f} "
            f"(warned from +{warned:g}, blocked from +{blocked:g})"
        )
    reasons(console, verification.reasons, verification.verdict)


def reasons(console: Console, sentences: Sequence[str], outcome: str) -> None:
    """Why it is no plain pass, one sentence a line."""
    colour = "red" if outcome in {"fail", "block"} else "yellow"
    for sentence in sentences:
        console.print(Text(f"• {sentence}", style=colour))


def next_step(console: Console, text: str) -> None:
    """What to do next."""
    console.print(Text.assemble(("next  ", "bold cyan"), text), soft_wrap=True)  # a command is copied as one line


def panel(title: str, body: str) -> Panel:
    """A step of the guided visit."""
    return Panel(Text(body), title=Text(title, style="bold"), title_align="left", border_style="cyan", padding=(1, 2))


def chart_words(chart: ChartUsed) -> str:
    """The chart in a line."""
    serial = f", serial {chart.target_serial}" if chart.target_serial else ""
    shots = f"{len(chart.shots)} shots" if len(chart.shots) > 1 else chart.shots[0].file
    return f"{chart.reference}{serial}; found {chart.found_by} in {shots}"


def flat_words(profile: Profile) -> str:
    """The flat field in a line."""
    flat = profile.flat_field
    if flat is None:
        return "none: the light was taken as even"
    return f"{len(flat.frames)} white frames, gain {flat.lowest:.2f} to {flat.highest:.2f}"
