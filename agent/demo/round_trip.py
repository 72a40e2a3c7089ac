"""The round trip of each answer's event: the broker, the cable to it, the reference cloud, and whoever looks on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.analysts import Finished
from agent.demo.arrivals import Arrivals, wait
from agent.demo.broker import Broker
from agent.demo.child import ChildFailed
from agent.demo.cloud_side import LEDGER, CloudSide, Heard, ask_ledger
from agent.demo.network import Network
from agent.demo.outages import Outages
from agent.demo.table import Event
from agent.messages.catalogue import RESULT
from agent.records.reading import find_scan, list_outbox
from agent.sections import DeviceSection

SETTLE_S: Final = 20.0
"""For the last acknowledgements: a lost connection is tried again within 4 s, and the second time within 8 s more."""


@dataclass(frozen=True)
class Balance:
    """What arrived of a demonstration, at its end."""

    lines: tuple[str, ...]
    failure: str | None
    """What is not as it should be; None: all that ended is in the cloud's ledger exactly once."""


class RoundTrip:
    """Owns the two processes and the watch; the network is handed in, since the agent's settings need its port."""

    def __init__(
        self, state: Path, device: DeviceSection, network: Network, outages: Outages, tell: Callable[[Event], None]
    ) -> None:
        self._state, self._device, self._network = state, device, network
        self._arrivals = Arrivals(self._state, network, outages, tell)
        self._broker: Broker | None = None
        self._cloud: CloudSide | None = None
        self._ended: dict[str, str] = {}
        self._settle_until: float | None = None
        self.trouble: str | None = None
        """Why it could not be set up; None where it could."""

    @property
    def ledger(self) -> Path:
        """The cloud's file."""
        return self._state / LEDGER

    @property
    def place(self) -> str:
        """Where broker and cloud are, or why they are not, in one line."""
        if self._broker is None or self.trouble is not None:
            return f"no round trip to the cloud: {self.trouble}; events wait in the outbox"
        return f"broker on 127.0.0.1:{self._broker.port} (this machine only), the cloud's ledger {self.ledger}"

    def start(self) -> None:
        """Start broker and cloud, and let the agent through once the cloud hears; call from the main thread."""
        try:
            self._broker = Broker(self._state)
            self._cloud = CloudSide(self._state, self._broker.port)
            self._cloud.wait_hearing()
        except (ChildFailed, OSError) as error:
            self.trouble = str(error)
            return
        self._network.lead_to(self._broker.port)
        self._arrivals.start()

    def close(self) -> None:
        """End all of it; after the agent, which says goodbye to the broker."""
        self._arrivals.stop()
        self._network.close()
        # The broker first: rumqttd 0.20 breaks down where a shared subscription is left with a message unacknowledged.
        for process in (self._broker, self._cloud):
            if process is not None:
                process.stop()

    def ended(self, finished: Finished) -> None:
        """An answer or rejection is committed; from any thread."""
        self._ended[finished.scan_id] = finished.path.name
        if self.trouble is None:
            self._arrivals.ended(finished)

    def settled(self) -> bool:
        """Put the cable back where it is out; whether all has arrived, or there is no more time to wait for it."""
        if self.trouble is not None:
            return True
        if self._settle_until is None:
            self._settle_until = time.monotonic() + SETTLE_S
            self._arrivals.want_network()
        return self._arrivals.settled or time.monotonic() > self._settle_until

    def balance(self) -> Balance:
        """What the outbox and the cloud's own report say; after the agent's end and before `close`."""
        if self.trouble is not None:
            return Balance((), f"no round trip to the cloud: {self.trouble}")
        waiting = {row.scan_id for row in list_outbox(self._state, "waiting")}
        given_up = {row.scan_id for row in list_outbox(self._state, "dead")}
        arrived = len(self._ended.keys() - waiting - given_up)
        lines = [f"cloud: {arrived} of {len(self._ended)} events acknowledged, {wait(len(waiting))}"]
        try:
            heard = ask_ledger(self.ledger, self._device.clinic_id, self._device.id, RESULT.topic)
        except ChildFailed as error:
            return Balance(tuple(lines), str(error))
        repeats = "1 repeat" if heard.repeats == 1 else f"{heard.repeats} repeats"
        lines += [
            f"the cloud's ledger, over all starts: {heard.events} events, {heard.missing} missing, {repeats} removed",
            f"  ask it: dermascan cloud report --ledger {self.ledger}",
        ]
        return Balance(tuple(lines), self._fault(arrived, heard))

    def _fault(self, arrived: int, heard: Heard) -> str | None:
        if arrived < len(self._ended):
            return f"{len(self._ended) - arrived} of {len(self._ended)} events were not acknowledged by the cloud"
        lost = self._not_heard(list(self._ended), heard)
        if lost:
            return f"acknowledged, but not in the cloud's ledger: {', '.join(lost)}"
        if heard.unreadable or not heard.once_each:
            return f"the cloud's ledger does not hold each event once: {heard}"
        return None

    def _not_heard(self, scan_ids: Sequence[str], heard: Heard) -> list[str]:
        """The pictures whose number the ledger lacks; an event of a scan has the scan's number."""
        scans = ((scan_id, find_scan(self._state, scan_id)) for scan_id in scan_ids)
        return [self._ended[scan_id] for scan_id, scan in scans if scan is None or not heard.has(scan.seq)]
