"""The device's status: online, offline, or (said by the broker in its name) lost."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

from agent.messages.catalogue import STATUS
from agent.messages.device import Status
from agent.messages.envelope import Sender, event_bytes


def status_event(sender: Sender, state: Literal["online", "offline", "lost"], now: datetime) -> bytes:
    """The retained event that says so; ``now`` is by the device's clock, in UTC."""
    return event_bytes(
        sender,
        STATUS,
        event_id=str(uuid.uuid4()),
        subject=sender.device_id,
        seq=None,
        time=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        data=Status(state=state, software_version=sender.software_version, since=None if state == "lost" else now),
    )
