"""What a broker's reason code on a PUBLISH means for the event (MQTT 5, table 2-6)."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Fate(Enum):
    """What to do with the event."""

    TAKEN = "taken"
    """The broker has it. The cloud has not (F18)."""
    UNHEARD = "unheard"
    """The broker threw it away, since nobody subscribes to the topic; MQTT counts that as success (F22)."""
    REFUSED = "refused"
    """Not this time: an access list, a quota, an inner error. The topic is left alone for a while."""
    CONDEMNED = "condemned"
    """Never, as it is."""


NO_SUBSCRIBERS: Final = 0x10
NOT_AUTHORISED: Final = 0x87
PACKET_TOO_LARGE: Final = 0x95
_CONDEMNED: Final = {
    0x90: "its topic is invalid to the broker",
    PACKET_TOO_LARGE: "it is too large for the broker",
    0x99: "its format is invalid to the broker",
}
_REFUSED: Final = {
    0x80: "the broker gave no reason",
    0x83: "an error of the broker's own",
    NOT_AUTHORISED: "the broker's access list does not allow this device to publish to this topic",
    0x97: "the broker's quota for this device is exceeded",
}


def fate(code: int) -> Fate:
    """Of the event, after PUBACK with this code."""
    if code == NO_SUBSCRIBERS:
        return Fate.UNHEARD
    if code in _CONDEMNED:
        return Fate.CONDEMNED
    return Fate.TAKEN if code < 0x80 else Fate.REFUSED


def sentence(code: int) -> str:
    """Why, for a person."""
    if code == NO_SUBSCRIBERS:
        return "nobody at the broker subscribes to this topic"
    text = _CONDEMNED.get(code) or _REFUSED.get(code) or "the broker refused it"
    return f"{text} (MQTT reason code {code})"
