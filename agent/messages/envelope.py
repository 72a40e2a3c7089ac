"""The envelope of every message: CloudEvents 1.0 in structured JSON, to the byte as it goes over the wire.

Sorted keys and no spaces, so that building an event twice gives the same bytes: who hears it twice can tell (F19).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from agent.messages.catalogue import BY_TYPE, MessageType

MAX_BYTES: Final = 128 * 1024
"""Of one event: what the most careful of the usual brokers lets through (F21)."""
_SEQUENCE_DIGITS: Final = 16


class MalformedMessage(ValueError):
    """What came is no message of ours; the sentence says why. ``event_id`` is its id, where it had one."""

    def __init__(self, sentence: str, event_id: str | None = None) -> None:
        super().__init__(sentence)
        self.event_id = event_id


@dataclass(frozen=True)
class Sender:
    """Who speaks: the clinic, the device and the software on it."""

    clinic_id: str
    device_id: str
    software_version: str

    @property
    def source(self) -> str:
        """The CloudEvents ``source``: a URI reference."""
        return f"/dermascan/{quote(self.clinic_id, safe='')}/{quote(self.device_id, safe='')}"


@dataclass(frozen=True)
class Event:
    """A message that came."""

    id: str
    message: MessageType
    source: str
    subject: str | None
    time: str | None
    sequence: int | None
    data: BaseModel


def event_bytes(
    sender: Sender,
    message: MessageType,
    *,
    event_id: str,
    subject: str,
    seq: int | None,
    time: str,
    data: BaseModel | Mapping[str, Any],
) -> bytes:
    """An event as its bytes.

    Args:
        sender: who speaks.
        message: what kind of message.
        event_id: the idempotency key.
        subject: what it is about: a scan's id, a dermoscope's, the device's.
        seq: its number in its topic, without gaps, padded since CloudEvents orders it as text; None without one.
        time: RFC 3339.
        data: the content; a model is written with every field.
    """
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": sender.source,
        "type": message.type,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        "data": data.model_dump(mode="json") if isinstance(data, BaseModel) else data,
    }
    if seq is not None:
        event["sequence"] = f"{seq:0{_SEQUENCE_DIGITS}d}"
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse(payload: bytes, expected: Collection[MessageType]) -> Event:
    """Read a message.

    Raises:
        MalformedMessage: too large, no JSON, no CloudEvent, of another type, or its data break the schema.
    """
    if len(payload) > MAX_BYTES:
        raise MalformedMessage(f"{len(payload)} bytes, and at most {MAX_BYTES} are read")
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"no JSON: {error}") from error
    if not isinstance(content, dict):
        raise MalformedMessage("no CloudEvent: not a JSON object")
    event_id = content.get("id")
    if not isinstance(event_id, str) or not event_id or len(event_id) > 128:
        raise MalformedMessage("no CloudEvent: id is missing, or no text of at most 128 characters")
    if content.get("specversion") != "1.0":
        raise MalformedMessage(f"specversion is {content.get('specversion')!r}, and 1.0 is read", event_id)
    message = BY_TYPE.get(kind) if isinstance(kind := content.get("type"), str) else None
    if message is None or message not in expected:
        raise MalformedMessage(
            f"type is {kind!r}, and here {', '.join(sorted(one.type for one in expected))} is read", event_id
        )
    try:
        data = message.model.model_validate_json(json.dumps(content.get("data")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("data", *first["loc"]))
        raise MalformedMessage(f"{where}: {first['msg']}", event_id) from error
    texts = {key: value for key in ("source", "subject", "time") if isinstance(value := content.get(key), str)}
    sequence = content.get("sequence")
    return Event(
        id=event_id,
        message=message,
        source=texts.get("source", ""),
        subject=texts.get("subject"),
        time=texts.get("time"),
        sequence=int(sequence) if isinstance(sequence, str) and sequence.isdecimal() else None,
        data=data,
    )
