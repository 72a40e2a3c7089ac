"""From what a broker delivers to what the ledger keeps: who said it, what it is, or why it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.messages.catalogue import MESSAGES, ROOT, STATUS, Direction, MessageType
from agent.messages.device import Status
from agent.messages.envelope import Event, MalformedMessage, Sender, parse
from agent.messages.results import Result

UP: Final = tuple(message for message in MESSAGES if message.direction is Direction.UP)
TOPICS: Final = tuple(dict.fromkeys(message.topic for message in UP if message is not STATUS))
"""Last parts of the topics whose events are kept, numbered and acknowledged; the status is neither."""
_EXPECTED: Final[dict[str, tuple[MessageType, ...]]] = {
    topic: tuple(message for message in UP if message.topic == topic) for topic in (*TOPICS, STATUS.topic)
}
_MAX_NUMBER: Final = (1 << 63) - 1
_MAX_REASON: Final = 500


@dataclass(frozen=True)
class Device:
    """Whose topic it came on: the broker's ACL sees to it that this is true."""

    clinic_id: str
    device_id: str


@dataclass(frozen=True)
class Heard:
    """One message. Exactly one of ``event`` and ``reason`` is there."""

    device: Device
    topic: str
    """The topic's last part."""
    payload: bytes
    event_id: str | None
    event: Event | None = None
    reason: str | None = None
    """Why it cannot be read; a sentence."""

    @property
    def status(self) -> Status | None:
        """What the device says of its connection, where the message says that."""
        return self.event.data if self.event is not None and isinstance(self.event.data, Status) else None


def read(topic: str, payload: bytes) -> Heard:
    """Read one message; whatever came, this returns and never raises.

    Args:
        topic: the whole topic.
        payload: the message's bytes.
    """
    parts = topic.split("/")
    if "/".join(parts[:2]) != ROOT or len(parts) != 5:
        return Heard(Device("", ""), topic[-64:], payload, None, reason="the topic is none of ours")
    device, name = Device(parts[2], parts[3]), parts[4]
    try:
        event = parse(payload, _EXPECTED.get(name, ()))
        _check(device, event, payload)
    except MalformedMessage as error:
        event_id = error.event_id if error.event_id is not None and _is_text(error.event_id) else None
        return Heard(device, name, payload, event_id, reason=_sentence(error))
    except (ValueError, RecursionError) as error:
        return Heard(device, name, payload, None, reason=_sentence(error))
    return Heard(device, name, payload, event.id, event)


def _check(device: Device, event: Event, payload: bytes) -> None:
    """What the envelope's reader does not ask for, and a ledger needs."""
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedMessage("no UTF-8", event.id) from error
    for name, text in (("id", event.id), ("subject", event.subject), ("time", event.time)):
        if text is not None and not _is_text(text):
            raise MalformedMessage(f"{name} holds half a character (a lone surrogate)", event.id)
    if event.sequence is not None and event.sequence > _MAX_NUMBER:
        raise MalformedMessage("sequence is larger than 63 bits", event.id)
    owner = Sender(device.clinic_id, device.device_id, "").source
    if event.source != owner:
        raise MalformedMessage(f"source is {event.source!r}, and came on a topic of {owner}", event.id)
    if isinstance(event.data, Result) and (event.data.root.clinic_id, event.data.root.device_id) != (
        device.clinic_id,
        device.device_id,
    ):
        raise MalformedMessage("data names another device than the topic does", event.id)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sentence(error: Exception) -> str:
    return str(error)[:_MAX_REASON].encode("utf-8", "replace").decode()
