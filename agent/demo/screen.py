"""The demonstration's two faces: a live table on a terminal, plain lines into a pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

from agent.demo.table import FOUND, Row, Stage, Word, line_of

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

    def show(self, rows: Sequence[Row], word: Word | None = None) -> None:
        """Show how things stand; ``word`` is the last on the network."""


class PlainScreen(AbstractContextManager["PlainScreen"]):
    """Writes a line when a picture has its end, when that is in the cloud, and no control codes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown: set[str] = set()
        self._arrived: set[str] = set()
        self._word: Word | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def show(self, rows: Sequence[Row], word: Word | None = None) -> None:
        """Write what is new since the last call."""
        for row in rows:
            # An answer can overtake the dermoscope's own word that the file is closed; its latency comes with that.
            early = row.stage is Stage.ANSWERED and row.latency_ms is None and row.how != FOUND
            if row.ended and not early and row.name not in self._shown:
                self._shown.add(row.name)
                self._write(line_of(row))
            if row.in_cloud_s is not None and row.name in self._shown and row.name not in self._arrived:
                self._arrived.add(row.name)
                self._write(f"  {row.name}: acknowledged by the cloud after {row.in_cloud_s:.2f} s")
        if word is not None and word != self._word:
            self._word = word
            self._write(f"  {word.text}")


class LiveScreen(AbstractContextManager["LiveScreen"]):
    """A table that is redrawn in place, from its making to the end of its context."""

    def __init__(self, console: Console, results: Path, hint: str, *, cloud: bool) -> None:
        """``cloud``: whether there is one that acknowledges events."""
        from rich.live import Live

        self._console, self._results, self._hint, self._cloud = console, results, hint, cloud
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table standing, and the cursor visible."""
        self._live.stop()

    def show(self, rows: Sequence[Row], word: Word | None = None) -> None:
        """Redraw the table, with as many of the newest rows as the terminal has room for."""
        room = max(4, self._console.height - 12)
        cloud = cloud_line(rows, word) if self._cloud else None
        picture = draw(rows, self._results, self._hint, self._console.width, room=room, cloud=cloud)
        self._live.update(picture, refresh=True)


def draw(
    rows: Sequence[Row], results: Path, hint: str, width: int, *, room: int = 1000, cloud: Text | None = None
) -> RenderableType:
    """The whole picture for a terminal of ``width`` columns: header, table, network, rejections, results.

    Args:
        rows: all of them; the newest ``room`` are shown.
        results: where the answers lie.
        hint: the last line.
        width: columns.
        room: rows of the table.
        cloud: how the cloud stands; without one there is no column for it either.
    """
    from rich.console import Group
    from rich.text import Text

    answered = [row for row in rows if row.stage is Stage.ANSWERED]
    last = answered[-1].scan_id if answered else "<scan>"
    refused = [row for row in rows if row.stage is Stage.REJECTED]
    below = Text(overflow="fold")
    if cloud is not None:
        below.append_text(cloud).append("\n")
    if refused:
        below.append(f"{refused[-1].name} rejected: {refused[-1].sentence}\n", "magenta")
    below.append(f"overlay  {results / last}.png\nanswer   {results / last}.json\n")
    below.append(hint, "dim")
    head = Text.assemble(("DermaScan demo ", "bold"), (HEADER, "bold black on yellow"))
    marks = "threshold" if not answered else f"threshold {answered[-1].threshold:.2f}"
    caption = Text(f"{len(rows)} pictures; | is the {marks}, ! a risk that reaches it: suspicious", style="dim")
    return Group(head, caption, _table(rows[-room:], wide=width >= WIDE, cloud=cloud is not None), below)


def _table(rows: Sequence[Row], *, wide: bool, cloud: bool) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    unit = " ms" if wide else ""
    columns = ["picture", *(["written"] if wide else []), "melanoma risk", "suggestion", "conf"]
    for name in [*columns, "latency" if wide else "ms", "by", "state", *(["cloud"] if cloud else [])]:
        table.add_column(name, no_wrap=True, justify="right" if name in {"conf", "latency", "ms"} else "left")
    for row in rows:
        table.add_row(
            row.name,
            *([row.how] if wide else []),
            risk_bar(row, BAR_CELLS if wide else BAR_CELLS_NARROW),
            row.suggestion,
            "" if row.confidence is None else f"{row.confidence:.0%}",
            "" if row.latency_ms is None else f"{row.latency_ms:.0f}{unit}",
            row.backend,
            Text(row.stage.value, style=_STAGE_STYLES[row.stage]),
            *([_arrival(row)] if cloud else []),
        )
    return table


def _arrival(row: Row) -> Text:
    """Whether the cloud has the row's event, and how long that took."""
    from rich.text import Text

    if not row.ended:
        return Text("")
    if row.in_cloud_s is None:
        return Text("waits", "yellow")
    return Text(f"✓ {row.in_cloud_s:.{1 if row.in_cloud_s < 10 else 0}f}s", "green")


def cloud_line(rows: Sequence[Row], word: Word | None) -> Text:
    """How many events the cloud has acknowledged, and the last word on the network."""
    from rich.text import Text

    ended = [row for row in rows if row.ended]
    arrived = sum(row.in_cloud_s is not None for row in ended)
    line = Text(f"cloud: {arrived} of {len(ended)} acknowledged")
    if word is not None:
        line.append(" · ").append(word.text, "bold black on yellow" if word.pulled else "green")
    return line


def risk_bar(row: Row, cells: int = BAR_CELLS) -> Text:
    """The melanoma risk as a bar with a mark at the threshold; red, and with an ``!``, from the threshold on."""
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
    return bar.append(f" {row.risk:.2f}{' !' if row.suspicious else ''}", style)
