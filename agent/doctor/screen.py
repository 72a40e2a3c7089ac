"""The doctor at a terminal: a table of everything, then what is to be done, numbered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from agent.doctor.examination import Examination
from agent.doctor.finding import Outcome
from agent.doctor.report import WORDS, heading, summary, troubles

if TYPE_CHECKING:
    from rich.console import Console

_STYLES: Final = {
    Outcome.OK: "green",
    Outcome.WARNING: "bold yellow",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "dim",
}
Progress = Callable[[int, int], None]


def show(examination: Examination, mended: Sequence[str], console: Console) -> None:
    """Print it."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    console.print(heading(examination), style="bold", highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    last = ""
    for finding in examination.findings:
        style, title = _STYLES[finding.outcome], examination.title(finding)
        quiet = "dim" if finding.outcome is Outcome.SKIPPED else ""
        cells = (f"[{style}]{WORDS[finding.outcome]}[/]", escape("" if title == last else title))
        table.add_row(*cells, escape(finding.sentence), style=quiet)
        last = title
    console.print(Padding(table, (1, 0)), highlight=False)
    for sentence in mended:
        console.print(f"[green]mended[/]  {escape(sentence)}", highlight=False)
    console.print(escape(summary(examination)), style="bold", highlight=False)
    for number, finding in enumerate(troubles(examination), 1):
        style, title = _STYLES[finding.outcome], escape(examination.title(finding))
        console.print()
        head = f"[bold]{number}.[/] [{style}]{WORDS[finding.outcome]}[/]  [bold]{title}[/]: {escape(finding.sentence)}"
        console.print(head, highlight=False)
        rows = [("why", finding.why), ("to do", finding.remedy)]
        if finding.fixable:
            rows.append(("or", "sudo dermascan doctor --fix"))
        todo = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        todo.add_column(style="dim", no_wrap=True)
        todo.add_column(overflow="fold")
        for name, text in rows:
            todo.add_row(name, escape(text))
        console.print(Padding(todo, (0, 0, 0, 3)), highlight=False)


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """How many checks have answered, while that is waited for."""
    with console.status("looking …") as status:

        def tell(done: int, of: int) -> None:
            status.update(f"looking … {done} of {of}")

        yield tell
