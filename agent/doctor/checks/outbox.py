"""The outbox: what was given up, what waits too long, and orders that could not be done (F18, F21)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from agent.doctor.finding import Check, Finding, ok, skipped, warning
from agent.doctor.place import Place
from agent.records import spool
from agent.records.errors import StoreError
from agent.records.opening import DATABASE
from agent.records.reading import list_outbox, outbox_stats

LONG: Final = timedelta(days=1)


def look(place: Place) -> Iterator[Finding]:
    """Nothing in it is ever deleted, so that all of this can be mended."""
    if not (place.state_dir / DATABASE).exists():
        yield skipped("There is no outbox yet.")
        return
    try:
        stats = outbox_stats(place.state_dir)
        dead = list_outbox(place.state_dir, "dead", 1)
    except StoreError:
        yield skipped("Not looked at: the database cannot be read; see 'Database'.")
        return
    found = []
    if dead:
        found.append(
            warning(
                f"{stats.dead} events were given up, the first because {dead[0].reason}.",
                "look at them: dermascan queue dead; when the cause is gone: dermascan queue retry all",
            )
        )
    if (late := _late(place, stats.oldest_waiting_at)) is not None:
        found.append(
            warning(
                f"{stats.waiting} events wait for the cloud, the oldest for {late.days} days.",
                "see 'Broker'; if it can be reached, ask who runs the cloud's side whether it acknowledges",
            )
        )
    if (refused := spool.waiting(place.state_dir)[1]) > 0:
        folder = place.state_dir / spool.SPOOL / spool.REFUSED
        found.append(
            warning(
                f"{refused} things that were asked for at a shell could not be done.",
                f"read why: sudo head {folder}/*.reason; then delete the files",
            )
        )
    yield from found or [ok(f"Nothing was given up; {stats.waiting} events wait for the cloud.")]


def _late(place: Place, oldest: str | None) -> timedelta | None:
    """How long the oldest has waited, where that is too long; without a broker it may wait for ever."""
    if oldest is None or place.config.mqtt is None or not place.clock_trusted:
        return None
    waited = place.now() - datetime.fromisoformat(oldest.replace("Z", "+00:00"))
    return waited if waited >= LONG else None


CHECK = Check(
    name="outbox",
    title="Outbox",
    looks_at="events that were given up, events that wait for more than a day, orders in spool/refused",
    why="The cloud has to hear of every answer and of every verdict.",
    look=look,
)
