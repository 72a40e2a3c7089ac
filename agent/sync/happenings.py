"""What happens on a connection, as plain data: paho's callbacks make these and do nothing else (F22)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias


@dataclass(frozen=True)
class Greeted:
    """The broker let us in."""

    session_present: bool
    """It remembers us: what it owes us it will bring."""
    receive_maximum: int
    """Events on their way at once, at most."""
    maximum_packet_size: int | None
    """Bytes; None where it named no limit."""


@dataclass(frozen=True)
class TurnedAway:
    """The broker did not let us in."""

    code: int
    sentence: str


@dataclass(frozen=True)
class Subscribed:
    """The broker's word on our subscriptions."""

    refused: int
    """How many of them it refused."""


class Taken(NamedTuple):
    """PUBACK. A tuple, as one is made for every event."""

    number: int
    """The packet's."""
    code: int
    """Its reason code; 0 in MQTT 3.1.1, which has none."""


@dataclass(frozen=True)
class Heard:
    """A message came; it is the broker's until it is acknowledged."""

    number: int
    qos: int
    topic: str
    payload: bytes


MUTE: Final = "the connection was closed"
"""All that can be said of a connection that ended without any word."""


@dataclass(frozen=True)
class Lost:
    """The connection is gone."""

    sentence: str
    code: int | None
    """The reason code of the broker's goodbye; None where it said none."""
    closed: bool
    """The other side closed it in so many words (not: silence)."""


Happening: TypeAlias = Greeted | TurnedAway | Subscribed | Taken | Heard | Lost
