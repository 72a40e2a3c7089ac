"""The demonstration's two faces: a live table on a terminal, plain lines into a pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

from agent.demo.table import FOUND, Row, Stage, line_of

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

HEADER: Final = "SYNTHETIC pictures, demonstration weights: not for clinical use"
BAR_CELLS: Final = 10
BAR_CELLS_NARROW: Final = 6
WIDE: Final = 120
"""Columns from which there is room to say how each picture was written."""
_STAGE_STYLES: Final = {
    Stage.WRITING: "dim",
    Stage.WAITING: "yellow",
    Stage.ANSWERED: "green",
    Stage.REJECTED: "bold magenta",
}


class Screen(AbstractContextManager["Screen"], Protocol):
    """Somewhere the rows are shown; used as a context."""

    def show(self, rows: Sequence[Row]) -> None:
        """Show how things stand."""


class PlainScreen(AbstractContextManager["PlainScreen"]):
    """Writes a line when a picture has its end, and no control codes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown: set[str] = set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def show(self, rows: Sequence[Row]) -> None:
        """Write the rows that have ended since the last call."""
        for row in rows:
            # An answer can overtake the dermoscope's own word that the file is closed; its latency comes with that.
            early = row.stage is Stage.ANSWERED and row.latency_ms is None and row.how != FOUND
            if row.ended and not early and row.name not in self._shown:
                self._shown.add(row.name)
                self._write(line_of(row))


class LiveScreen(AbstractContextManager["LiveScreen"]):
    """A table that is redrawn in place, from its making to the end of its context."""

    def __init__(self, console: Console, results: Path, hint: str) -> None:
        from rich.live import Live

        self._console, self._results, self._hint = console, results, hint
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table standing, and the cursor visible."""
        self._live.stop()

    def show(self, rows: Sequence[Row]) -> None:
        """Redraw the table, with as many of the newest rows as the terminal has room for."""
        room = max(4, self._console.height - 10)
        picture = draw(rows[-room:], self._results, self._hint, len(rows), self._console.width)
        self._live.update(picture, refresh=True)


def draw(rows: Sequence[Row], results: Path, hint: str, count: int, width: int) -> RenderableType:
    """The whole picture for a terminal of ``width`` columns: header, table, rejections, where the results lie."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("picture", no_wrap=True)
    if wide:
        table.add_column("written", no_wrap=True)
    table.add_column("melanoma risk", no_wrap=True)
    table.add_column("suggestion", no_wrap=True)
    table.add_column("conf", no_wrap=True, justify="right")
    table.add_column("latency", no_wrap=True, justify="right")
    table.add_column("backend" if wide else "by", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            *([row.how] if wide else []),
            risk_bar(row, BAR_CELLS if wide else BAR_CELLS_NARROW),
            row.suggestion,
            "" if row.confidence is None else f"{row.confidence:.0%}",
            "" if row.latency_ms is None else f"{row.latency_ms:.0f} ms",
            row.backend,
            Text(row.stage.value, style=_STAGE_STYLES[row.stage]),
        )
    answered = [row for row in rows if row.stage is Stage.ANSWERED]
    last = answered[-1].scan_id if answered else "<scan>"
    refused = [row for row in rows if row.stage is Stage.REJECTED]
    below = Text(overflow="fold")
    if refused:
        below.append(f"{refused[-1].name} rejected: {refused[-1].sentence}\n", "magenta")
    below.append(f"overlay  {results / last}.png\nanswer   {results / last}.json\n")
    below.append(hint, "dim")
    head = Text.assemble(("DermaScan demo ", "bold"), (HEADER, "bold black on yellow"))
    return Group(head, Text(f"{count} pictures; | is the threshold of a suspicious risk", style="dim"), table, below)


def risk_bar(row: Row, cells: int = BAR_CELLS) -> Text:
    """The melanoma risk as a bar with a mark at the threshold, red from the threshold on."""
    from rich.text import Text

    if row.risk is None or row.threshold is None:
        return Text("")
    style = "bold red" if row.suspicious else "green"
    filled, mark = round(row.risk * cells), min(cells - 1, int(row.threshold * cells))
    bar = Text()
    for cell in range(cells):
        if cell == mark:
            bar.append("|", "bold yellow")
        else:
            bar.append("█" if cell < filled else "░", style if cell < filled else "dim")
    bar.append(f" {row.risk:.2f}", style)
    bar.append(f" {'≥' if row.suspicious else '<'} {row.threshold:.2f}")
    return bar
