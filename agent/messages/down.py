"""What the cloud says to a device: acknowledgements, and hints to do something."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.messages.parts import EventId, HeardData

COMMANDS = ("sync-now", "send-report", "model-available", "recalibrate")


class Ack(HeardData):
    """Events that the cloud has committed; only this takes a row out of the outbox."""

    ids: Annotated[tuple[EventId, ...], Field(max_length=10_000)]


class Command(HeardData):
    """A hint. The device decides: nothing is installed or deleted because a message says so."""

    command: Literal["sync-now", "send-report", "model-available", "recalibrate"]
    model: Annotated[str, Field(max_length=200)] | None = None
    """Of ``model-available``: name and version."""
    dermoscope_id: Annotated[str, Field(max_length=64)] | None = None
    """Of ``recalibrate``."""
