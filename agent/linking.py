"""The link to the cloud: the publisher that carries the outbox, as the settings of the moment want it, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent import __version__
from agent.config import Config
from agent.messages.envelope import Sender
from agent.records.store import Store

if TYPE_CHECKING:
    from agent.sync.publisher import Publisher


class Link:
    """Owner of the publisher. Use settings at the start and whenever they change; stop once."""

    def __init__(self, store: Store, clock_trusted: Callable[[], bool]) -> None:
        self._store, self._clock_trusted = store, clock_trusted
        self.publisher: Publisher | None = None
        """None without ``[mqtt]``."""
        self.heard: Callable[[], None] = _nobody
        """Who else is told of each event that is posted, on the store's thread."""
        self._asked: Callable[[], None] = _nobody

    def use(self, config: Config) -> None:
        """End the connection that there is, and begin the one of these settings, if they want one."""
        self.stop()
        self._store.on_posted = self.heard
        if config.mqtt is None:
            return
        from agent.sync.opening import start_sync  # only where it is wanted: it brings paho

        sender = Sender(config.device.clinic_id, config.device.id, __version__)
        self.publisher = publisher = start_sync(config.mqtt, sender, self._store, self._clock_trusted)

        def posted() -> None:
            publisher.wake()
            self.heard()

        self._store.on_posted = posted

    def keep(self) -> None:
        """Begin anew where it died; for the agent's rounds (F22)."""
        if (publisher := self.publisher) is not None:
            publisher.start()

    def echo(self, done: Callable[[], None]) -> None:
        """Have ``done`` called by the publisher's thread; at once where there is none."""
        self._asked = done
        if (publisher := self.publisher) is None:
            done()
        else:
            publisher.echo(done)

    def stop(self) -> None:
        """End the connection."""
        before, self.publisher = self.publisher, None
        if before is not None:
            before.stop()
        self._asked()  # nobody else would answer any more


def _nobody() -> None:
    pass
