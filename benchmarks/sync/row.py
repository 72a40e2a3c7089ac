"""What the cloud's word on one event costs in the outbox, by the size of the event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agent.messages.catalogue import RESULT
from agent.records import outbox
from agent.records.connection import Connection
from benchmarks.sync.device import open_store

TOGETHER: Final = 300
"""Events of one word, and so of one transaction."""


@dataclass(frozen=True)
class RowCost:
    """For each row."""

    event_bytes: int
    cpu_us: float
    """Processor time of the process."""
    wall_us: float


def measure(folder: Path, sizes: Sequence[int] = (100, 1_000, 4_000, 15_000), rows: int = 12_000) -> list[RowCost]:
    """Fill an outbox with events of one size, and acknowledge them one word after the other."""
    found = []
    for size in sizes:
        with open_store(folder / str(size), "device-1") as store:
            ids = [f"event-{number:030d}" for number in range(rows)]
            for at in range(0, rows, TOGETHER):
                store._writer.submit(partial(_fill, ids=ids[at : at + TOGETHER], size=size)).result()  # noqa: SLF001
            wall, cpu = time.monotonic(), time.process_time()
            for at in range(0, rows, TOGETHER):
                store.outbox_acknowledge(ids[at : at + TOGETHER]).result()
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            found.append(RowCost(size, cpu / rows * 1e6, wall / rows * 1e6))
    return found


def _fill(db: Connection, ids: Sequence[str], size: int) -> None:
    for event_id in ids:
        outbox.enqueue(
            db,
            event_id=event_id,
            scan_id=None,
            event_type=RESULT.type,
            topic=RESULT.topic,
            event=b"x" * size,
            created_at="2026-01-01T00:00:00.000Z",
        )
