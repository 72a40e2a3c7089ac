"""What the demonstration shows: events of pictures and answers, in any order, become the rows of its table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from agent.answer.scan import Answer
from agent.demo.dermoscope import Shot

if TYPE_CHECKING:
    from agent.analysts import Finished


FOUND: Final = "found at the start"
"""How a picture was written that an earlier demonstration left without an answer."""


class Stage(str, Enum):
    """Where a picture stands, in the table's words."""

    WRITING = "writing"
    """The dermoscope is at it."""
    WAITING = "waiting"
    """It lies there whole; the answer is not committed yet."""
    ANSWERED = "answered"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Announced:
    """The dermoscope begins to write a picture."""

    name: str
    how: str
    """Size, format and habit in words."""


@dataclass(frozen=True)
class Outcome:
    """A picture's scan ended and is committed, ``committed`` being on the monotonic clock in seconds."""

    name: str
    scan_id: str
    committed: float
    answer: Answer | None
    sentence: str | None


@dataclass(frozen=True)
class Acknowledged:
    """The cloud has committed the event of a picture's scan, and it has left the outbox."""

    name: str
    after_s: float
    """From the committed answer on."""


@dataclass(frozen=True)
class Word:
    """What is to be said of the network from now on."""

    text: str
    pulled: bool
    """Whether the cable is out."""


Event = Announced | Shot | Outcome | Acknowledged | Word


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    how: str = FOUND
    stage: Stage = Stage.WRITING
    risk: float | None = None
    threshold: float | None = None
    suggestion: str = ""
    confidence: float | None = None
    latency_ms: float | None = None
    """From the file lying there whole to the committed answer; None for a rejection, where intake may rightly wait
    for a file that looks unfinished."""
    backend: str = ""
    scan_id: str = ""
    sentence: str = ""
    """Why it was rejected."""
    in_cloud_s: float | None = None
    """From the committed answer or rejection to its event's acknowledgement; None while that waits."""

    @property
    def suspicious(self) -> bool:
        """Whether the melanoma risk reaches the bundle's operating threshold."""
        return self.risk is not None and self.threshold is not None and self.risk >= self.threshold

    @property
    def ended(self) -> bool:
        """Whether the picture has its answer or its rejection."""
        return self.stage in {Stage.ANSWERED, Stage.REJECTED}


def outcome_of(finished: Finished) -> Outcome:
    """The daemon's news in the table's terms."""
    answer = finished.answer and finished.answer.model_copy(update={"attention_map": ""})  # it may run for days
    return Outcome(finished.path.name, finished.scan_id, finished.committed, answer, finished.sentence)


def rows_of(events: Iterable[Event]) -> tuple[Row, ...]:
    """One row for each picture, in the order in which they were first heard of.

    An answer may come before the dermoscope is through with its file (it may close it twice), so order must not matter.
    """
    rows: dict[str, Row] = {}
    closed: dict[str, float] = {}
    committed: dict[str, float] = {}
    for event in events:
        if isinstance(event, Word):
            continue
        name = event.path.name if isinstance(event, Shot) else event.name
        row = rows.get(name, Row(name))
        if isinstance(event, Announced):
            row = replace(row, how=event.how)
        elif isinstance(event, Acknowledged):
            row = replace(row, in_cloud_s=event.after_s)
        elif isinstance(event, Shot):
            closed[name] = event.closed_monotonic
            row = row if row.ended else replace(row, stage=Stage.WAITING)
        else:
            committed[name] = event.committed
            row = _ended(row, event)
        if row.stage is Stage.ANSWERED and name in closed and name in committed:
            row = replace(row, latency_ms=max(0.0, committed[name] - closed[name]) * 1000)
        rows[name] = row
    return tuple(rows.values())


def word_of(events: Sequence[Event]) -> Word | None:
    """The last word on the network; None where none was said."""
    return next((event for event in reversed(events) if isinstance(event, Word)), None)


def _ended(row: Row, outcome: Outcome) -> Row:
    answer = outcome.answer
    if answer is None:
        return replace(row, stage=Stage.REJECTED, scan_id=outcome.scan_id, sentence=outcome.sentence or "")
    return replace(
        row,
        stage=Stage.ANSWERED,
        scan_id=outcome.scan_id,
        risk=answer.diagnosis.melanoma_risk,
        threshold=answer.operating.threshold,
        suggestion=answer.diagnosis.primary.replace("_", " "),
        confidence=answer.diagnosis.confidence,
        backend=answer.backend,
    )


def line_of(row: Row) -> str:
    """A row as one plain line, for a pipe or a file."""
    if row.stage is Stage.REJECTED:
        return f"{row.name} ({row.how}): REJECTED: {row.sentence}"
    if row.stage is not Stage.ANSWERED or row.risk is None or row.threshold is None or row.confidence is None:
        return f"{row.name} ({row.how}): {row.stage.value}"
    latency = "" if row.latency_ms is None else f", {row.latency_ms:.0f} ms"
    verdict = "SUSPICIOUS" if row.suspicious else "below threshold"
    return (
        f"{row.name} ({row.how}): melanoma risk {row.risk:.3f}, threshold {row.threshold:.3f}, {verdict}; "
        f"suggestion {row.suggestion} ({row.confidence:.0%}){latency}, by {row.backend}, scan {row.scan_id}"
    )


def summary_of(rows: Sequence[Row], results: str) -> tuple[str, ...]:
    """The last words: how many were answered, how many rejected and why, how long it took, where the results lie."""
    answered = [row for row in rows if row.stage is Stage.ANSWERED]
    rejected = [row for row in rows if row.stage is Stage.REJECTED]
    lines = [f"{len(answered)} answered, {len(rejected)} rejected, {len(rows) - len(answered) - len(rejected)} open"]
    lines += [f"  rejected: {row.name}: {row.sentence}" for row in rejected]
    latencies = [row.latency_ms for row in answered if row.latency_ms is not None]
    if latencies:
        median = statistics.median(latencies)
        lines.append(f"median latency {median:.0f} ms, from the whole file to the committed answer")
    lines.append(f"results: {results}: <scan>.json the answer, <scan>.png the overlay")
    return tuple(lines)
