"""How the sync stands, for status pages and metrics; nothing in it is of a patient (F30)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Phase(str, Enum):
    """What the sync is at."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """The connection failed or was lost; the next try comes."""
    STOPPED = "stopped"


@dataclass(frozen=True)
class SyncState:
    """As of now."""

    phase: Phase
    sentence: str
    """For a person: what is so, or why it is not."""
    protocol: str
    """``5`` or ``3.1.1``."""
    flying: int = 0
    """Events on their way to the broker."""
    awaiting: int = 0
    """Events that the broker took and the cloud has not acknowledged."""
    held_topics: tuple[str, ...] = ()
    """Topics that the broker refuses, or nobody listens to."""


@dataclass
class SyncCounts:
    """Since the start."""

    attempts: int = 0
    """Connections tried."""
    connections: int = 0
    sent: int = 0
    """Events handed to a connection, repeats included."""
    taken: int = 0
    """PUBACKs that meant something."""
    acknowledged: int = 0
    """Events that left the outbox."""
    overdue: int = 0
    """Events sent again because the cloud's word did not come."""
    refused: int = 0
    unheard: int = 0
    dead: int = 0
    heard: int = 0
    """Messages from the cloud."""
    malformed: int = 0
    """Of them, those that were none."""
    rebuilt: int = 0
    """Times that something broke off unexpectedly and was begun anew (F22)."""
