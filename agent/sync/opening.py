"""Puts the sync together from the settings and the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from agent.config import MqttSection
from agent.messages.envelope import Sender
from agent.records.store import Store
from agent.sync.inbox import Inbox
from agent.sync.publisher import Publisher


def start_sync(settings: MqttSection, sender: Sender, store: Store, clock_trusted: Callable[[], bool]) -> Publisher:
    """Begin to carry the outbox to the broker of ``settings``. Trouble with it is told by `Publisher.state`."""

    def figures() -> dict[str, float]:
        return {f"rows_{name}": float(value) for name, value in asdict(store.counts()).items()}

    publisher = Publisher(store, Inbox(store, sender, figures), settings, sender, clock_trusted=clock_trusted)
    store.on_posted = publisher.wake
    publisher.start()
    return publisher
