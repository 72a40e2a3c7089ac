"""Acknowledgements on their way to the devices: gathered for a moment, so that many events cost few messages."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from agent import __version__
from agent.messages.catalogue import ACK, topic_of
from agent.messages.down import Ack
from agent.messages.envelope import Sender, event_bytes
from cloud.reading import Device

MAX_IDS: Final = 500
"""In one message: 500 of the longest ids are 64 KiB, half of what brokers let through."""
MAX_WAIT_S: Final = 0.05


@dataclass(frozen=True)
class AckMessage:
    """An acknowledgement, ready to be published."""

    topic: str
    payload: bytes
    ids: int


class AckBatches:
    """Gathers the ids of committed events, for each device; for one thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[Device, tuple[float, list[str]]] = {}

    def add(self, committed: Iterable[tuple[Device, str]]) -> None:
        """Ids that are durable."""
        now = self._clock()
        for device, event_id in committed:
            self._waiting.setdefault(device, (now, []))[1].append(event_id)

    def wait_s(self) -> float | None:
        """Seconds until something is due; None while nothing waits."""
        if not self._waiting:
            return None
        if any(len(ids) >= MAX_IDS for _, ids in self._waiting.values()):
            return 0.0
        return max(0.0, min(since for since, _ in self._waiting.values()) + MAX_WAIT_S - self._clock())

    def due(self, *, everything: bool = False) -> list[AckMessage]:
        """Take the messages that are due: full ones, and those whose first id has waited long enough."""
        now = self._clock()
        messages: list[AckMessage] = []
        for device, (since, ids) in list(self._waiting.items()):
            late = everything or now >= since + MAX_WAIT_S
            whole = len(ids) if late else len(ids) // MAX_IDS * MAX_IDS
            messages += [_message(device, ids[at : min(at + MAX_IDS, whole)]) for at in range(0, whole, MAX_IDS)]
            if whole == len(ids):
                del self._waiting[device]
            else:
                self._waiting[device] = (since, ids[whole:])
        return messages


def _message(device: Device, ids: list[str]) -> AckMessage:
    payload = event_bytes(
        Sender(device.clinic_id, device.device_id, __version__),
        ACK,
        event_id=str(uuid.uuid4()),
        subject=device.device_id,
        seq=None,
        time=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        data=Ack(ids=tuple(ids)),
    )
    return AckMessage(topic_of(device.clinic_id, device.device_id, ACK.topic), payload, len(ids))
