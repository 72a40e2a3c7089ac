"""What ``dermascan analyze`` gives out: JSON lines, readable blocks, overlay files."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from agent.answer import texts
from agent.answer.oneshot import Item, Refused
from agent.answer.overlay import render_overlay
from agent.answer.pipeline import Analysis


def as_json(item: Item) -> str:
    """One line of JSON: path and state, then the answer's fields, or reason and sentence."""
    path = os.fsencode(item.path).decode("utf-8", "replace")
    if isinstance(item.outcome, Refused):
        refused = {"reason": item.outcome.reason.value, "sentence": item.outcome.sentence}
        return json.dumps({"path": path, "state": "rejected", **refused})
    return json.dumps({"path": path, "state": "answered", **item.outcome.answer.model_dump(mode="json")})


def as_text(item: Item, overlay: Path | None = None) -> str:
    """A block for people, without a trailing newline; coloured where stdout is a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    name = os.fsencode(item.path).decode("utf-8", "replace")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    if isinstance(item.outcome, Refused):
        title = Text.assemble((name, "bold"), "  ", ("rejected", "bold yellow"))
        table.add_row("why", Text(item.outcome.sentence))
    else:
        answer = item.outcome.answer
        suspicious = answer.operating.suspicious
        title = Text.assemble((name, "bold"), "  ", ("suspicious", "bold red") if suspicious else ("answered", "green"))
        suggestion = texts.CLASS_NAMES.get(answer.diagnosis.primary, answer.diagnosis.primary)
        risk = f"{answer.diagnosis.melanoma_risk:.1%} (threshold {answer.operating.threshold:.1%})"
        table.add_row("melanoma risk", Text(risk, style="red" if suspicious else ""))
        table.add_row("suggestion", Text(f"{suggestion}, confidence {answer.diagnosis.confidence:.1%}"))
        table.add_row("recommendation", Text(answer.recommendation))
        for warning in answer.warnings:
            table.add_row("note", Text(warning, style="yellow"))
        table.add_row("answered by", Text(f"{answer.model_version} on {answer.backend} in {answer.latency_ms:.0f} ms"))
        if overlay is not None:
            table.add_row("overlay", Text(str(overlay)))
        table.add_row("", Text(texts.ADJUNCT, style="dim"))
    # Written into a buffer first, with what rich finds out about the terminal: stdout belongs to the caller.
    terminal = Console()
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        force_terminal=terminal.is_terminal,
        width=min(terminal.width, 120) if terminal.is_terminal else 120,
        no_color=terminal.no_color,
        highlight=False,
    )
    console.print(title)
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


class OverlayFolder:
    """Writes overlays as ``<stem>.png``; made once per run. Never over an input or over an overlay of this run."""

    def __init__(self, folder: Path, inputs: Iterable[Path]) -> None:
        """Make the folder; raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._taken = {_place(path) for path in inputs}

    def write(self, path: Path, analysis: Analysis) -> Path:
        """Draw and write the overlay of the picture at ``path``; all of it or nothing. Raises OSError."""
        target = self._free(path.stem)
        png = render_overlay(analysis.rgb, analysis.attention, analysis.answer)
        descriptor, name = tempfile.mkstemp(prefix=".overlay-", dir=self.folder)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(png)
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return target

    def _free(self, stem: str) -> Path:
        number = 1
        target = self.folder / f"{stem}.png"
        while _place(target) in self._taken:
            number += 1
            target = self.folder / f"{stem}-{number}.png"
        self._taken.add(_place(target))
        return target


def _place(path: Path) -> str:
    return os.path.realpath(path)
