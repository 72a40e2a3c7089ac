"""One demonstration: agent, simulated dermoscope and the other side, from their start to the last event's arrival."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from typing_extensions import Self

from agent.analysts import Finished
from agent.config import load_config
from agent.daemon import Daemon
from agent.demo.broker import is_installed
from agent.demo.dermoscope import SimulatedDermoscope
from agent.demo.network import Network
from agent.demo.outages import Outages
from agent.demo.page import PageKey, page_port
from agent.demo.round_trip import Balance, RoundTrip
from agent.demo.screen import Screen
from agent.demo.settings import CAPTURES, write_settings
from agent.demo.table import Event, outcome_of, rows_of, word_of
from agent.demo.visit import Visit
from engines.bundle import demo_bundle_folder

READY_TIMEOUT_S: Final = 60.0
REFRESH_S: Final = 0.2
GAP_S: Final = 3.0
"""Between an answer and the next picture where nobody asked to be done soon."""
ONCE_GAP_S: Final = 0.2


class Performance(contextlib.AbstractContextManager["Performance"]):
    """Its context starts everything and ends it in order; `events` and `balance` tell afterwards how it went."""

    def __init__(self, state: Path, seed: int, captures: int | None, stop: threading.Event) -> None:
        """Write the settings.

        Args:
            state: the folder for everything.
            seed: decides the pictures.
            captures: how many of them; None for as many as come until ``stop`` is set.
            stop: asks for the end.

        Raises:
            AccessError: the page's tokens cannot be used.
            BundleError: there is no bundle to run.
        """
        self.events: list[Event] = []
        self.balance: Balance | None = None
        """What reached the cloud; None where there is none."""
        self._stop = stop
        self._news: queue.Queue[Event] = queue.Queue()
        bundle = demo_bundle_folder()
        network = Network() if is_installed() else None
        config = load_config(write_settings(state, bundle, network.port if network else None, page_port()))
        self.round_trip = (
            RoundTrip(state, config.device, network, Outages(captures), self._news.put) if network else None
        )
        """None where there is no broker."""
        self._visit = Visit(
            SimulatedDermoscope(state / CAPTURES, seed, sleep=self._sleep),
            self._news.put,
            stop,
            captures=captures,
            gap_s=GAP_S if captures is None else ONCE_GAP_S,
        )
        self._daemon = Daemon(config, self._finished)
        self._key = PageKey(state)

    def __enter__(self) -> Self:
        """Start the agent and the other side.

        Raises:
            StoreError: the state folder cannot be used, or another demonstration uses it.
        """
        try:
            self._daemon.start()
        except BaseException:
            self._close_round_trip()
            raise
        if self.round_trip is not None:
            self.round_trip.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the agent, take stock, and end the other side."""
        try:
            self._key.close()
            self._daemon.stop()
            if self.round_trip is not None and error is None:
                self.balance = self.round_trip.balance()
        finally:
            self._close_round_trip()
        self._drain()

    @property
    def page(self) -> str | None:
        """The clinic page's address, with which one is signed in; None where there is no page (the log says why)."""
        address = self._daemon.web_address
        return None if address is None else self._key.link(address)

    def wait_ready(self) -> str | None:
        """Wait for the engine; returns what went wrong, or None when it is ready or the wait was broken off."""
        for _ in range(round(READY_TIMEOUT_S / 0.25)):
            if self._daemon.wait_ready(0.25) or self._stop.is_set():
                return None
        return f"the engine was not ready within {READY_TIMEOUT_S:.0f} s"

    def run(self, screen: Screen) -> str | None:
        """Take the pictures and wait for what becomes of them; returns what went wrong, or None."""
        self._visit.start()
        self._show_until(lambda: self._visit.over, screen)
        self._visit.join()
        if self.round_trip is not None:
            self._show_until(self.round_trip.settled, screen)
        self._show(screen)
        return self._visit.failure

    def _finished(self, finished: Finished) -> None:
        self._news.put(outcome_of(finished))
        if self.round_trip is not None:
            self.round_trip.ended(finished)
        self._visit.ended(finished.path.name)

    def _show_until(self, over: Callable[[], bool], screen: Screen) -> None:
        self._show(screen)
        while not over():
            with contextlib.suppress(queue.Empty):
                self.events.append(self._news.get(timeout=REFRESH_S))
                self._show(screen)

    def _show(self, screen: Screen) -> None:
        self._drain()
        screen.show(rows_of(self.events), word_of(self.events))

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self.events.append(self._news.get_nowait())

    def _sleep(self, seconds: float) -> None:
        """A dermoscope's pause, which ends when the demonstration is asked to stop."""
        self._stop.wait(seconds)

    def _close_round_trip(self) -> None:
        if self.round_trip is not None:
            self.round_trip.close()
