"""What was measured since the start: how long each stage took and what became of captures and requests."""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.carrying import Finished

WINDOW: Final = 1000
"""Values of each kind that quantiles are taken from, the newest."""
QUANTILES: Final = (0.5, 0.95, 0.99)


@dataclass
class Times:
    """How long something took, in seconds."""

    count: int = 0
    total_s: float = 0.0
    newest: array[float] = field(default_factory=lambda: array("d", bytes(8 * WINDOW)))
    """A ring, whole from the start: it takes no more memory on the last day than on the first."""

    def add(self, seconds: float) -> None:
        """One more."""
        self.newest[self.count % WINDOW] = seconds
        self.count += 1
        self.total_s += seconds

    def quantiles(self) -> Mapping[float, float]:
        """Of the newest, by nearest rank."""
        ordered = sorted(self.newest[: self.count])
        return {share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in QUANTILES if ordered}


class Figures:
    """Counts from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[tuple[str, str], Times] = {}
        self._requests: dict[str, Times] = {}
        self._scans: Counter[tuple[str, str, str]] = Counter()
        self._answers: Counter[tuple[str, int]] = Counter()

    def finished(self, finished: Finished) -> None:
        """A capture came to its end."""
        answer = finished.answer
        reason = finished.reason.value if finished.reason else ""
        with self._lock:
            self._scans[(finished.state.value, answer.backend if answer else "", reason)] += 1
            if answer is not None:
                for stage, took_ms in (*answer.timings_ms.items(), ("total", answer.latency_ms)):
                    self._stages.setdefault((stage, answer.backend), Times()).add(took_ms / 1e3)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is its template, never its path."""
        with self._lock:
            self._answers[(route, status)] += 1
            self._requests.setdefault(route, Times()).add(seconds)

    def stages(self) -> Iterator[tuple[tuple[str, str], int, float, Mapping[float, float]]]:
        """Of each stage and backend: the count, the seconds together, the quantiles."""
        with self._lock:
            found = [(key, one.count, one.total_s, one.quantiles()) for key, one in sorted(self._stages.items())]
        yield from found

    def requests(self) -> Iterator[tuple[str, int, float, Mapping[float, float]]]:
        """The same of each route."""
        with self._lock:
            found = [(key, one.count, one.total_s, one.quantiles()) for key, one in sorted(self._requests.items())]
        yield from found

    def scans(self) -> dict[tuple[str, str, str], int]:
        """How many captures ended, by state, backend and reason."""
        with self._lock:
            return dict(self._scans)

    def answers(self) -> dict[tuple[str, int], int]:
        """How many requests were answered, by route and status."""
        with self._lock:
            return dict(self._answers)
