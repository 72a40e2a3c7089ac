"""How each part of the daemon is seen to make progress, for the watchdog (F25)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from agent.analysts import Analysts
from agent.linking import Link
from agent.records.store import Store
from agent.upkeep.progress import Changes, Echo, Source, any_of
from agent.watching import Watches


def sources_of(store: Store, watches: Watches, analysts: Analysts, link: Link) -> Mapping[str, Source]:
    """By name of the part, the monotonic time of its last progress."""

    def compacting() -> float:
        return time.monotonic() if store.compacting else 0.0

    def ask_store(done: Callable[[], None]) -> None:
        store.echo(done)

    return {
        "intake": watches.progress,
        # A foreign lock holds the store up, and each try is progress: a restart would not end it (F07).
        "store": any_of(Echo(ask_store), Changes(lambda: store.busy_retries), compacting),
        "worker": analysts.pulse.working,
        "sync": Echo(link.echo),
    }
